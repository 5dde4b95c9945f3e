"""The card of a data set: README.md with its metadata and plots."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from huggingface_hub import DatasetCardData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..artifacts import strip_local_paths
from ..battle import WINNERS
from ..data.columns import VOTE_COLUMNS
from ..data.config import PrepareConfig
from ..data.contamination import NO_MATCH
from ..data.ledger import REMOVED_FILE, Ledger
from ..data.source import Source
from ..encoding.template import PROMPT_VERSION
from ..errors import UserError
from ..report.plots import NAMES, png
from .templates import card_template
from .vote_statistics import VoteStatistics

# Licenses that allow to pass on a copy, if only for some uses.
REDISTRIBUTABLE_LICENSES = frozenset(
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


@dataclass
class CardContent:
    """
    What the card of a data set says.

    Args:
        config (`PrepareConfig`): The options.
        battles (`DataFrame`): What was written: `source`, `split`, `group`, `swapped_from`, `turns`, `characters` and
            [`VOTE_COLUMNS`].
        languages (`Series`): The number of battles in each language that a source names.
        ledger (`Ledger`): What was read and changed.
        statistics (`VoteStatistics`): What the votes say.
        contamination (`dict`): For each file the numbers of its battles by match, see [`write_contamination`].
        num_tokens (`ndarray`, *optional*): The lengths of the conversations in tokens.
        files (`dict[str, str]`): The hash of each parquet file, by its path in the data set.
        provenance (`dict`): Command, configuration and versions.
    """

    config: PrepareConfig
    battles: pd.DataFrame
    languages: pd.Series
    ledger: Ledger
    statistics: VoteStatistics
    contamination: dict[str, dict[tuple[str, str], int]]
    num_tokens: np.ndarray | None
    files: dict[str, str]
    provenance: dict

    @property
    def title(self) -> str:
        """The name of the data set."""
        return Path(self.config.output_dir).name


def refuse_unpublishable(sources: list[Source], despite_license: list[str]) -> None:
    """
    Check that the licenses of all sources allow to pass on a copy.

    Args:
        sources (`list[Source]`): The sources, with the licenses that were found while reading them.
        despite_license (`list[str]`): Names of sources that are not checked.

    Raises:
        UserError: With the names of those that do not, or whose license is not known.
    """
    refused = sorted(
        source.name
        for source in sources
        if (source.license or "").lower() not in REDISTRIBUTABLE_LICENSES and source.name not in despite_license
    )
    if refused:
        raise UserError(
            f"push_to_hub: the license of {', '.join(refused)} forbids passing it on, or is unknown. Set its license, "
            f"or --publish_despite_license {' '.join(refused)} if you may. Nothing was written"
        )


def write_dataset_card(content: CardContent, folder: Path) -> None:
    """Write README.md and its plots to the folder of a data set, which has a `removed.parquet`."""
    removed = pd.read_parquet(folder / REMOVED_FILE, columns=["source", "reason"])
    (folder / "README.md").write_text(dataset_card(content, removed), encoding="utf-8")
    (folder / "plots").mkdir()
    for name, image in _plots(content).items():
        (folder / "plots" / name).write_bytes(image)


def dataset_card(content: CardContent, removed: pd.DataFrame) -> str:
    """
    Render the card, with the metadata that the Hub and `load_dataset` read.

    Args:
        content (`CardContent`): What it says.
        removed (`DataFrame`): `source` and `reason` of each removed row.
    """
    config, battles, ledger = content.config, content.battles, content.ledger
    num_used = battles[battles["swapped_from"].isna()]["source"].value_counts()
    changes = [(name, change, count) for name, counts in ledger.changes.items() for change, count in counts.items()]
    changes += [
        (source, f"removed: {reason}", count)
        for source, by_reason in removed.groupby("source", sort=False)["reason"]
        for reason, count in by_reason.value_counts(sort=False).items()
    ]
    provenance = content.provenance
    return card_template("dataset_card.md").render(
        metadata=f"---\n{_metadata(content)}\n---",
        title=content.title,
        name=config.hub_dataset_id if config.push_to_hub else strip_local_paths(config.output_dir),
        splits=[_split_row(str(name), in_split) for name, in_split in battles.groupby("split", sort=False)],
        sources=[
            {
                "name": source.name,
                "revision": ledger.origins[source.name].get("revision"),
                "license": source.license,
                "num_rows": ledger.num_rows[source.name],
                "num_used": num_used.get(source.name, 0),
            }
            for source in config.sources
        ],
        languages=", ".join(f"{name} ({count})" for name, count in content.languages.head(20).items()),
        changes=changes,
        unused=[(name, ", ".join(columns)) for name, columns in ledger.unused.items() if columns],
        kept=config.kept,
        statistics=content.statistics.lines(),
        annotators=_annotator_rows(content),
        split=_describe_split(battles, config),
        contamination=[_describe_contamination(name, counts) for name, counts in content.contamination.items()],
        conversations={
            "prompt_version": PROMPT_VERSION,
            "max_length": config.max_length,
            "tokenizer": strip_local_paths(config.tokenizer),
            "which": config.examples,
        }
        if config.conversations
        else None,
        command=provenance["command"],
        configuration=yaml.safe_dump(provenance["configuration"], sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{package} {version}" for package, version in provenance["versions"].items()),
    )


def _annotator_rows(content: CardContent) -> list[dict]:
    """The annotators with most votes; without names, unless these are in the data set anyway."""
    is_named = "annotator" in content.config.kept
    return [
        row | {"name": row["name"] if is_named else str(number), "agreement": f"{row['agreement']:.0%}"}
        for number, row in enumerate(content.statistics.annotators, start=1)
        if row["compared"]
    ]


def _describe_split(battles: pd.DataFrame, config: PrepareConfig) -> str:
    """How the data was split, as counted in what was written."""
    num_splits = battles.groupby("group")["split"].nunique()
    similar = ""
    if config.near_duplicates:
        similar = f", or similar ones (Jaccard similarity {config.near_duplicates} or more),"
    sentences = [
        f"Battles with the same first prompt{similar} form a group: {len(num_splits)} groups, the largest of "
        f"{battles['group'].value_counts().max()} rows. {(num_splits > 1).sum()} groups are split."
    ]
    if config.validation_ids:
        sentences.append("Validation was given as a list of ids; the other battles of its groups were removed.")
    else:
        sentences.append(
            "A, B and tie win about the same fractions of the battles in both splits, as far as groups allow."
        )
    if config.validation_sources:
        sentences.append(f"Validation has battles of {', '.join(config.validation_sources)} only.")
    if config.num_folds:
        sentences.append(f"The training battles are numbered in {config.num_folds} folds in the same way.")
    return " ".join(sentences)


def _describe_contamination(name: str, counts: dict[tuple[str, str], int]) -> str:
    matches = [f"; {count} {match} (in {splits})" for (match, splits), count in counts.items() if match != NO_MATCH]
    num_new = counts.get((NO_MATCH, ""), 0)
    return f"Of {sum(counts.values())} rows of {name}, {num_new} are not in the data{''.join(matches)}."


def _plots(content: CardContent) -> dict[str, bytes]:
    """PNG files by name."""
    return {
        "winners.png": _winners_plot(content.battles),
        "turns.png": _turns_plot(content.battles["turns"].to_numpy()),
        "lengths.png": _lengths_plot(content.battles["characters"].to_numpy(), "characters")
        if content.num_tokens is None
        else _lengths_plot(content.num_tokens, "tokens in an example"),
    }


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4, 3))
    return figure, figure.add_axes((0.18, 0.18, 0.78, 0.76))  # a layout that is found takes as long as the plot


def _winners_plot(battles: pd.DataFrame) -> bytes:
    fractions = battles.groupby("split", sort=False)[VOTE_COLUMNS].mean()
    figure, axes = _axes()
    for i, (split, vote) in enumerate(fractions.iterrows()):
        axes.bar(np.arange(3) + 0.4 * i, vote, width=0.4, label=split)
    axes.set(xticks=np.arange(3) + 0.2 * (len(fractions) - 1), xticklabels=NAMES, ylabel="fraction of votes")
    axes.margins(y=0.2)  # room for the legend
    axes.legend()
    return png(figure)


def _turns_plot(num_turns: np.ndarray) -> bytes:
    figure, axes = _axes()
    counts = np.bincount(np.minimum(num_turns, 10))[1:]
    axes.bar(range(1, len(counts) + 1), counts)
    axes.set(xlabel="turns (10: or more)", ylabel="battles", yscale="log")
    return png(figure)


def _lengths_plot(lengths: np.ndarray, unit: str) -> bytes:
    figure, axes = _axes()
    axes.hist(lengths, bins=np.geomspace(max(1, lengths.min()), lengths.max() + 1, 40).tolist())
    axes.set(xlabel=unit, ylabel="battles", xscale="log")
    return png(figure)


def _split_row(name: str, battles: pd.DataFrame) -> dict:
    votes = battles[VOTE_COLUMNS].to_numpy()
    is_for_one = votes.max(axis=1) == 1
    return {
        "name": name,
        "battles": len(battles),
        "swapped": int(battles["swapped_from"].notna().sum()),
        **dict(zip(WINNERS, votes[is_for_one].sum(axis=0).astype(int), strict=True)),
        "divided": int((~is_for_one).sum()),
    }


def _metadata(content: CardContent) -> str:
    licenses = {(source.license or "unknown").lower() for source in content.config.sources}
    license_id = licenses.pop() if len(licenses) == 1 else "other"
    license_id = "other" if license_id == "unknown" else license_id
    languages = [str(name).lower() for name in content.languages.index]
    codes = [LANGUAGE_CODES.get(name, name if len(name) == 2 else None) for name in languages]
    num_battles = len(content.battles)
    return DatasetCardData(
        pretty_name=content.title,
        license=license_id,
        license_name="see-sources" if license_id == "other" else None,
        language=list(dict.fromkeys(code for code in codes if code)) or None,
        size_categories=[next((name for limit, name in SIZES.items() if num_battles < limit), "n>10M")],
        task_categories=["text-classification"],
        tags=["human-feedback", "preference", "pairwise-comparison", "llm-as-a-judge", "trl", "lmsys-trl"],
        configs=_configs(content),
    ).to_yaml()


def _configs(content: CardContent) -> list[dict]:
    """The configurations of the data set: battles and, if there are any, conversations."""
    configs: list[dict] = []
    for name in ("battles", "conversations") if content.config.conversations else ("battles",):
        hashes = "".join(file_hash for path, file_hash in content.files.items() if path.startswith(f"{name}/"))
        splits = content.battles["split"].value_counts().index
        configs.append(
            {
                "config_name": name,
                # `load_dataset` caches a local folder under its name and this metadata, whatever its files contain.
                "description": f"sha256 {sha256(hashes.encode()).hexdigest()}",
                **({"default": True} if name == "battles" else {}),
                "data_files": [{"split": split, "path": f"{name}/{split}.parquet"} for split in splits],
            }
        )
    return configs
