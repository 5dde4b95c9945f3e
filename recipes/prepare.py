"""
Make a data set from votes: clean them, split them without leaks, and write them with a card.

    lmsys-trl prepare --sources a.csv b.csv --output_dir data/battles
    lmsys-trl prepare arena.yaml --output_dir data/arena
    lmsys-trl prepare --suggest mine.csv

A source is a file, an archive, a folder, hub:owner/name[@revision], kaggle:owner/name or kaggle:competition. In a YAML
it may have more keys, such as name, file, format, sample and swap. `datasets.load_dataset` reads the data set.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from lmsys_trl.artifacts import provenance
from lmsys_trl.config import parse_config
from lmsys_trl.data.config import PrepareConfig
from lmsys_trl.errors import raise_problems
from lmsys_trl.terminal import logger, run_recipe, suggest_next

CONFIGS = (PrepareConfig,)


@dataclass
class SuggestConfig:
    """The file whose columns are guessed."""

    suggest: str


def main():
    if "--suggest" in sys.argv:
        return suggest_columns()
    config, given = parse_config(*CONFIGS)
    raise_problems(config.problems())

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.data import pipeline
    from lmsys_trl.data.contamination import write_contamination
    from lmsys_trl.data.ledger import RECORD_FILE, REMOVED_FILE, Ledger, write_record
    from lmsys_trl.data.sources import read_sources
    from lmsys_trl.data.text_store import open_texts, replaced_folder, store_battles, write_removed, write_splits
    from lmsys_trl.outputs import claim, refuse_other_configuration
    from lmsys_trl.publish.dataset_card import CardContent, refuse_unpublishable, write_dataset_card
    from lmsys_trl.publish.vote_statistics import vote_statistics

    output_dir, sources, seed = Path(config.output_dir), config.sources, config.seed
    record = provenance(given | {"sources": [source.given() for source in sources]})
    if not config.overwrite:
        refuse_other_configuration(output_dir / RECORD_FILE, record["configuration"], "data set")
    with claim(output_dir, config.files()), replaced_folder(output_dir) as folder:
        ledger, texts_file = Ledger(), folder / "texts.arrow"
        battles = store_battles(read_sources(sources, ledger), texts_file, config.kept)
        texts = open_texts(texts_file)
        if config.push_to_hub:
            refuse_unpublishable(sources, config.publish_despite_license or [])

        pipeline.sample(battles, sources, seed)
        statistics = vote_statistics(pipeline.not_removed(battles), texts)
        pipeline.remove_duplicates(battles, sources, config.duplicates)
        pipeline.make_ids_unique(battles, ledger)
        pipeline.assign_groups(battles, texts, config.near_duplicates)
        pipeline.assign_splits(battles, texts, config)
        pipeline.assign_folds(battles, config.num_folds, seed)
        prepared = pipeline.add_swapped_copies(battles, sources, seed)

        write_splits(prepared, texts, folder / "battles", config.kept)
        write_removed(ledger.removed, battles, texts, folder / REMOVED_FILE)
        matches = write_contamination(config, battles, texts, folder / "contamination")
        num_tokens = None
        if config.conversations:
            from lmsys_trl.encoding.conversations import write_conversations  # imports torch

            num_tokens = write_conversations(config, folder)
        files = write_record(ledger, record, folder)
        languages = pipeline.count_languages(prepared, texts)
        content = CardContent(config, prepared, languages, ledger, statistics, matches, num_tokens, files, record)
        write_dataset_card(content, folder)
        notes = pipeline.large_groups(battles, texts)
        texts_file.unlink()

    for line in (*ledger.notes(), *notes):
        logger.warning(line)
    for line in statistics.lines():
        logger.info(line)
    for line in pipeline.summary(prepared):
        logger.info(line)
    logger.info("Written to %s", output_dir)
    if config.push_to_hub:
        from lmsys_trl.hub import push_folder

        message = f"{len(prepared)} battles"
        url = push_folder(output_dir, config.hub_dataset_id, "dataset", config.hub_private_repo, message)
        logger.info("Pushed: %s", url)
    suggest_next("sft", "smollm2.yaml", "--dataset_name", output_dir, "--output_dir", "runs/judge")


def suggest_columns():
    """Print a mapping of columns for a file."""
    config, _ = parse_config(SuggestConfig)

    from lmsys_trl.data.suggest import describe

    logger.info(describe(config.suggest))


if __name__ == "__main__":
    run_recipe(main)
