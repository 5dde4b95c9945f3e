"""
Compare two answers, two models, or many: which would people prefer, in both orders of the answers.

    lmsys-trl compare --adapter runs/judge --prompt "What is 2 + 2?" --a "It is 4." --b "I don't know."
    lmsys-trl compare --adapter runs/judge --prompt question.txt --a answer.txt --b - --json < other.txt
    lmsys-trl compare --adapter runs/judge --outputs gpt.jsonl llama.jsonl --output_dir reports/gpt-llama

A text is given as it is, as the name of a file, or as - for what comes in on standard input; several are turns. One
that begins with dashes is given as --a=TEXT. Files of outputs hold the answers of one model each, to prompts that are
the same by id or text; two give a win rate, more give a leaderboard. Started again with the same command, an
interrupted run resumes.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lmsys_trl.config import parse_config
from lmsys_trl.errors import UserError, collect_problems, raise_problems
from lmsys_trl.options import BaseModelConfig, InferenceConfig
from lmsys_trl.terminal import logger, run_recipe


@dataclass
class CompareConfig:
    """Which judge compares what."""

    adapter: str = field(
        metadata={"help": "A judge: a folder, owner/name[@revision] on the Hub, file.zip, kaggle:..."}
    )
    prompt: list[str] = field(
        default_factory=list, metadata={"help": "What was asked: a text, a file, or -; several are turns."}
    )
    a: list[str] = field(default_factory=list, metadata={"help": "The first answer, or one a turn."})
    b: list[str] = field(default_factory=list, metadata={"help": "The second answer, or one a turn."})
    json: bool = field(default=False, metadata={"help": "Print JSON."})
    outputs: list[str] = field(
        default_factory=list,
        metadata={"help": "Instead of prompt, a and b: files with the answers of a model each, two or more."},
    )
    output_dir: str | None = field(default=None, metadata={"help": "With outputs: the folder for the report."})
    max_battles: int | None = field(
        default=None, metadata={"help": "With outputs: compare a random sample of this many pairs of answers."}
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace a report in output_dir that was made with another configuration."}
    )

    def problems(self) -> list[str]:
        """What is wrong with the options together."""
        texts = {"prompt": self.prompt, "a": self.a, "b": self.b}
        given, turns = [key for key, words in texts.items() if words], [len(words) for words in texts.values()]
        if self.outputs:
            checks = [
                (not given and not self.json, f"{', '.join(given) or 'json'}: not with outputs"),
                (len(self.outputs) > 1, "outputs: one file. Give the files of two models or more"),
                (self.output_dir, "output_dir: missing. The folder for the report"),
            ]
        else:
            num_inputs = sum(words.count("-") for words in texts.values())
            missing = [key for key in texts if key not in given]
            checks = [
                (not missing, f"{', '.join(missing)}: missing. Give prompt, a and b, or files as outputs"),
                (not self.output_dir and not self.max_battles, "output_dir, max_battles: only with outputs"),
                (num_inputs < 2, "prompt, a, b: standard input (-) can be one of the texts only"),
                (
                    bool(missing) or len(set(turns)) == 1,
                    f"prompt, a, b: have {turns[0]}, {turns[1]} and {turns[2]} texts. Give one of each for a turn",
                ),
            ]
        return [problem for is_met, problem in checks if not is_met]


CONFIGS = (CompareConfig, BaseModelConfig, InferenceConfig)


def main():
    config, base_model, inference, given = parse_config(*CONFIGS)
    raise_problems(config.problems())
    if config.outputs:
        compare_outputs(config, base_model, inference, given)
    else:
        compare_texts(config, base_model, inference)


def compare_texts(config: CompareConfig, base_model: BaseModelConfig, inference: InferenceConfig) -> None:
    """Print what the judge says of two answers."""
    words = {"prompt": config.prompt, "a": config.a, "b": config.b}
    texts = {key: [read_text(key, word) for word in given] for key, given in words.items()}

    # Imported now: what takes seconds must not delay --help and the report of a typo.
    from lmsys_trl.judging.compare import comparison_lines
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.models.precision import precision_overrides

    judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
    found = judge.compare(texts["prompt"], texts["a"], texts["b"])
    logger.info("%s", json.dumps(found, indent=2) if config.json else "\n".join(comparison_lines(found)))


def compare_outputs(
    config: CompareConfig, base_model: BaseModelConfig, inference: InferenceConfig, given: dict
) -> None:
    """Compare models by their answers, and write a report."""
    from datasets import Dataset

    from lmsys_trl.artifacts import file_fingerprint, provenance
    from lmsys_trl.data.model_outputs import pair_outputs, read_outputs
    from lmsys_trl.judging.cost import estimate_cost
    from lmsys_trl.judging.judge import Judge
    from lmsys_trl.judging.resume import all_processes
    from lmsys_trl.models.precision import precision_overrides
    from lmsys_trl.outputs import check_shards, claim_with_shards, refuse_foreign, refuse_other_configuration
    from lmsys_trl.report.comparison import comparison_figures, unlinked_models
    from lmsys_trl.report.comparison_page import COMPARISON_FILES, summary_lines, write_comparison

    output_dir, processes, made = Path(str(config.output_dir)), all_processes(), provenance(given)
    shards = output_dir / "predictions.shards"
    raise_problems(check_shards(shards))
    refuse_foreign(output_dir, COMPARISON_FILES, ("comparison.json", shards.name), "a comparison")
    if not config.overwrite:
        refuse_other_configuration(output_dir / "comparison.json", made["configuration"], "comparison")
    with claim_with_shards(output_dir, shards, [*config.outputs, config.adapter], processes.is_main_process):
        outputs, problems = [], list[str]()
        for path in config.outputs:
            with collect_problems(problems):
                outputs.append(read_outputs(path))
        raise_problems(problems)
        battles, notes = pair_outputs(outputs, config.max_battles)
        notes += unlinked_models(battles)
        judge = Judge.from_pretrained(config.adapter, base_model.model_name_or_path, precision_overrides(inference))
        if processes.is_main_process:
            for note in notes:
                logger.warning(note)
            tokens, seconds = estimate_cost(judge, battles)
            logger.info(
                "%d battles of %d models in both orders, %.2g million tokens: about %.1f minutes",
                len(battles), len(outputs), tokens / 1e6, seconds / 60 / processes.num_processes,
            )  # fmt: skip
        predictions = judge.predict_dataset(
            Dataset.from_list(battles),
            tta="swap",
            max_tokens_per_batch=inference.max_tokens_per_batch,
            folder=shards,
            processes=processes,
            progress=True,
        )
        if not processes.is_main_process:
            return
        figures = comparison_figures(battles, predictions)
        fingerprints = {found.model: file_fingerprint(found.path) for found in outputs}
        shards.mkdir(parents=True, exist_ok=True)  # says that the folder is ours while its report is incomplete
        write_comparison(output_dir, figures, {"outputs": fingerprints, "notes": notes, **made}, battles, predictions)
    for line in summary_lines(figures):
        logger.info(line)
    logger.info("The report is %s", output_dir / "report.html")


def read_text(key: str, word: str) -> str:
    """A text that was given as itself, as a file, or as - for standard input."""
    if word == "-":
        try:
            return sys.stdin.buffer.read().decode().removesuffix("\n")  # the last line's end, as editors write it
        except UnicodeDecodeError as error:
            raise UserError(f"{key}: standard input is not text in UTF-8") from error
    if re.fullmatch(r"[^\s:]+\.(txt|md|json|jsonl|html)", word) and not Path(word).exists():
        raise UserError(f"{key}: there is no file {word}. To compare this word itself, give it on standard input (-)")
    try:
        return Path(word).read_text(encoding="utf-8").removesuffix("\n") if Path(word).is_file() else word
    except (OSError, ValueError) as error:  # such as a text too long for the name of a file
        if isinstance(error, UnicodeDecodeError):
            raise UserError(f"{key}: {word} is not a text file in UTF-8") from error
        return word


if __name__ == "__main__":
    run_recipe(main)
