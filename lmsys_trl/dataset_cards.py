"""The words and plots on the card of a data set."""

import numpy as np
import pandas as pd
import yaml
from huggingface_hub import DatasetCardData
from matplotlib.figure import Figure

from .battle import WINNERS
from .cards import card_template
from .duplicates import VOTE
from .report.plots import NAMES, png
from .sources import Ledger, Source

# Licences under which a copy may be passed on, if only for some uses.
LICENSES_TO_PASS_ON = frozenset(
    "apache-2.0 mit bsd bsd-2-clause bsd-3-clause unlicense cc0-1.0 pddl cc cc-by-2.0 cc-by-3.0 cc-by-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 odc-by odbl "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 openrail".split()
)
SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
LANGUAGE_CODES = dict(
    pair.split(":")
    for pair in "arabic:ar bengali:bn catalan:ca chinese:zh croatian:hr czech:cs danish:da dutch:nl english:en "
    "finnish:fi french:fr german:de greek:el hebrew:he hindi:hi hungarian:hu indonesian:id italian:it japanese:ja "
    "korean:ko latin:la malay:ms norwegian:no persian:fa polish:pl portuguese:pt romanian:ro russian:ru slovak:sk "
    "slovenian:sl spanish:es swedish:sv tamil:ta thai:th turkish:tr ukrainian:uk vietnamese:vi".split()
)


def sources_not_to_pass_on(sources: list[Source]) -> list[str]:
    """The names of sources whose licence forbids passing them on, or is not known."""
    return [source.name for source in sources if (source.license or "").lower() not in LICENSES_TO_PASS_ON]


def dataset_card(
    rows: pd.DataFrame, languages: pd.Series, sources: list[Source], ledger: Ledger, removed: pd.DataFrame,
    record: dict, statements: dict,
) -> str:  # fmt: skip
    """
    Args:
        rows (`DataFrame`): What was written: `source`, `split`, `swapped_from` and the vote.
        languages (`Series`): How many battles there are of each language that a source names.
        sources (`list[Source]`): Where they came from.
        ledger (`Ledger`): What was read and changed.
        removed (`DataFrame`): A row each for what was removed, with `source` and `reason`.
        record (`dict`): Command, configuration and versions.
        statements (`dict`): What else the card says: `title`, `repo_id`, `split`, `contamination`,
            `conversations`, and `fingerprints`, a hash of the files of each configuration.

    Returns:
        `str`: A README.md with the metadata that the Hub and `load_dataset` read.
    """
    kept = rows[rows["swapped_from"].isna()]["source"].value_counts()
    changes = [(name, what, count) for name, counts in ledger.changes.items() for what, count in counts.items()]
    changes += [
        (name, f"removed: {reason}", count)
        for (name, reason), count in removed.groupby(["source", "reason"], sort=False).size().items()
    ]
    return card_template("dataset_card.md").render(
        metadata=f"---\n{_metadata(rows, languages, sources, statements)}\n---",
        folder=statements["title"],
        **statements,
        splits=[_split_row(name, part) for name, part in rows.groupby("split", sort=False)],
        sources=[
            {
                "name": source.name,
                "revision": ledger.facts[source.name].get("revision"),
                "license": source.license,
                "read": ledger.read[source.name],
                "kept": kept.get(source.name, 0),
            }
            for source in sources
        ],
        languages=", ".join(f"{name} ({count})" for name, count in languages.head(20).items()),
        ledger=changes,
        command=record["command"],
        configuration=yaml.safe_dump(record["configuration"], sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{package} {version}" for package, version in record["versions"].items()),
    )


def split_statement(
    rows: pd.DataFrame, near_duplicates: float, validation_ids: str | None, sources: list[str] | None,
    num_folds: int | None,
) -> str:  # fmt: skip
    """How the data was split, as counted in what was written; the settings are those of recipes/prepare.py."""
    sides = rows.groupby("group")["split"].nunique()
    similar = f", or similar ones (Jaccard similarity {near_duplicates} or more)," if near_duplicates else ""
    sentences = [
        f"Battles with the same first prompt, white space apart{similar} form a group: {len(sides)} groups, the "
        f"largest of {rows['group'].value_counts().max()} rows. {(sides > 1).sum()} of them stand on both sides."
    ]
    if validation_ids:
        sentences.append("Validation was given as a list of ids; what shares a group with it was removed.")
    else:
        sentences.append("Winners have the same shares on both sides.")
    if sources:
        sentences.append(f"Validation holds battles of {', '.join(sources)} only.")
    if num_folds:
        sentences.append(f"The training battles are numbered in {num_folds} folds in the same way.")
    return " ".join(sentences)


def contamination_statement(name: str, counts: dict[tuple[str, str], int]) -> str:
    """How many rows of a file are in the data already, by kind of match and side of the split."""
    found = [f"; {count} {match} (in {splits})" for (match, splits), count in counts.items() if match != "none"]
    return (
        f"Of {sum(counts.values())} rows of {name}, {counts.get(('none', ''), 0)} are not in the data{''.join(found)}."
    )


def plots(rows: pd.DataFrame, lengths: np.ndarray, unit: str) -> dict[str, bytes]:
    """
    Args:
        rows (`DataFrame`): As for [`dataset_card`], with `turns`.
        lengths (`ndarray`): The length of each battle or row.
        unit (`str`): In what.

    Returns:
        `dict[str, bytes]`: PNG files by name.
    """
    shares = rows.groupby("split", sort=False)[VOTE].mean()
    winners = Figure(figsize=(4, 3), layout="constrained")
    axes = winners.subplots()
    for i, (split, row) in enumerate(shares.iterrows()):
        axes.bar(np.arange(3) + 0.4 * i, row, width=0.4, label=split)
    axes.set(xticks=np.arange(3) + 0.2 * (len(shares) - 1), xticklabels=NAMES, ylabel="share of votes")
    axes.margins(y=0.2)  # room for the legend
    axes.legend()
    turns = Figure(figsize=(4, 3), layout="constrained")
    counts = np.bincount(np.minimum(rows["turns"], 10))[1:]
    axes = turns.subplots()
    axes.bar(range(1, len(counts) + 1), counts)
    axes.set(xlabel="turns (10: or more)", ylabel="battles", yscale="log")
    spread = Figure(figsize=(4, 3), layout="constrained")
    axes = spread.subplots()
    axes.hist(lengths, bins=np.geomspace(max(1, lengths.min()), lengths.max() + 1, 40))
    axes.set(xlabel=unit, ylabel="battles", xscale="log")
    return {"winners.png": png(winners), "turns.png": png(turns), "lengths.png": png(spread)}


def _split_row(name: str, part: pd.DataFrame) -> dict:
    votes = part[VOTE].to_numpy()
    hard = votes.max(axis=1) == 1
    wins = votes[hard].sum(axis=0).astype(int)
    return {
        "name": name,
        "battles": len(part),
        "swapped": int(part["swapped_from"].notna().sum()),
        **dict(zip(WINNERS, wins, strict=True)),
        "soft": int((~hard).sum()),
    }


def _metadata(rows: pd.DataFrame, languages: pd.Series, sources: list[Source], statements: dict) -> str:
    licenses = {(source.license or "unknown").lower() for source in sources}
    splits = rows["split"].value_counts()
    codes = [LANGUAGE_CODES.get(name.lower(), name.lower() if len(name) == 2 else None) for name in languages.index]
    license_id = licenses.pop() if len(licenses) == 1 else "other"
    license_id = "other" if license_id == "unknown" else license_id
    return DatasetCardData(
        pretty_name=statements["title"],
        license=license_id,
        license_name="see-sources" if license_id == "other" else None,
        language=list(dict.fromkeys(code for code in codes if code)) or None,
        size_categories=[next((name for limit, name in SIZES.items() if len(rows) < limit), "n>10M")],
        task_categories=["text-classification"],
        tags=["human-feedback", "preference", "pairwise-comparison", "llm-as-a-judge", "trl", "lmsys-trl"],
        configs=[
            {
                "config_name": name,
                # `load_dataset` caches a local folder under its name and this metadata, whatever its files hold.
                "description": f"sha256 {fingerprint}",
                **({"default": True} if name == "battles" else {}),
                "data_files": [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits.index],
            }
            for name, fingerprint in statements["fingerprints"].items()
        ],
    ).to_yaml()
