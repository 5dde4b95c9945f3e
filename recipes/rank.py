"""
Rank several candidates for each prompt by a judge: best of N.

    lmsys-trl rank --adapter runs/judge --input_file candidates.jsonl --output_file ranked.jsonl
    lmsys-trl rank --adapter runs/judge --input_file candidates.jsonl --output_file best.jsonl --method knockout

Each row of the input has a prompt and a list of responses. The output has the same rows with `ranking`, the numbers of
the responses from 0, best first, and `scores`. Started again with the same command, an interrupted run resumes.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmsys_trl.config import parse_config
from lmsys_trl.errors import UserError, first_problems, raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class RankConfig:
    """Which judge ranks what."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    input_file: str = field(
        metadata={"help": "JSONL, JSON or parquet with prompt and responses, a list, in each row."}
    )
    output_file: str = field(metadata={"help": "*.jsonl: the same rows with ranking and scores."})
    method: Literal["round_robin", "knockout"] = field(
        default="round_robin",
        metadata={"help": "Every two candidates meet, or winners meet winners: fewer battles, which find the best."},
    )


CONFIGS = (RankConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, _ = parse_config(*CONFIGS)

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.artifacts import atomic_write
    from lmsys_trl.data.files import as_json
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.judging.rank import rank_candidates
    from lmsys_trl.models.precision import check_inference_config, precision_overrides
    from lmsys_trl.outputs import check_shards, claim_with_shards, shards_of

    output_file = Path(config.output_file)
    shards = shards_of(output_file)
    problems = [*check_inference_config(inference), *check_shards(shards)]
    if output_file.suffix != ".jsonl":
        problems.append(f"output_file: expected a name that ends in .jsonl, found {output_file}")
    elif output_file.exists() and not is_ranking(output_file):
        problems.append(
            f"output_file: {output_file} exists and holds no ranking, so it is not replaced. Choose another name"
        )
    raise_problems(problems)
    with claim_with_shards(output_file, shards, [config.input_file, config.adapter], True):
        rows = read_candidates(config.input_file)
        judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
        ranked = rank_candidates(
            judge,
            rows,
            config.method,
            max_tokens_per_batch=inference.max_tokens_per_batch,
            folder=shards,
            progress=True,
        )
        with atomic_write(output_file) as draft, draft.open("w", encoding="utf-8") as file:
            for row, found in zip(rows, ranked, strict=True):
                file.write(as_json(row | found) + "\n")
    logger.info("The candidates of %d prompts are ranked, written to %s", len(rows), output_file)


def is_ranking(path: Path) -> bool:
    """Whether a file is empty, or was written by this recipe."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline()
        return not line or {"ranking", "scores"} <= set(json.loads(line))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def read_candidates(path: str) -> list[dict]:
    """The rows of a file, each with a prompt and responses."""
    from lmsys_trl.data.files import find_files, read_rows
    from lmsys_trl.data.source import Source

    limits = Source(path)
    _, *rows = read_rows(find_files(Path(path))[0], limits.max_size_gb, limits.max_nesting)
    if not rows:
        raise UserError(f"{path}: has no rows")
    problems = []
    for number, (row, problem) in enumerate(rows, 1):
        missing = [name for name in ("prompt", "responses") if row.get(name) in (None, "", [])]
        if not problem and missing:
            problem = f"there is no {' and no '.join(missing)}"
        elif not problem and not isinstance(row["responses"], list):
            problem = "responses: expected a list, which CSV cannot hold. Write JSONL"
        elif not problem and not all(isinstance(text, str | list) for text in row["responses"]):
            problem = "responses: expected texts, or lists with one text a turn"
        if problem:
            problems.append(f"{path}: row {number}: {problem}")
    raise_problems(first_problems(problems))
    return [row for row, _ in rows]


if __name__ == "__main__":
    run_recipe(main)
