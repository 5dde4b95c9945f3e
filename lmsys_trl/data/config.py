"""Options that say where battles are. Imports nothing heavy, so that `--help` is fast."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .source import Columns, FormatName, Source, Sources, Votes

# Of a data set on disk, see schema.py.
OUR_COLUMNS = (
    "id", "source", "language", "model_a", "model_b", "prompt", "response_a", "response_b", "vote", "group", "fold",
    "swapped_from",
)  # fmt: skip


@dataclass
class BattlesConfig:
    """Which battles."""

    test_file: str | None = field(
        default=None,
        metadata={"help": "A file of battles in any format that prepare reads; for predictions, -: JSONL from stdin."},
    )
    dataset_name: str | None = field(
        default=None,
        metadata={"help": "Instead of test_file: a data set made by prepare, of which the validation split is used."},
    )
    format: FormatName | None = field(
        default=None, metadata={"help": "The format of test_file (default: the first one whose columns it has)."}
    )
    columns: Columns | None = field(
        default=None, metadata={"help": "Where test_file has what, as for prepare: prompt=question vote=preferred."}
    )
    votes: Votes | None = field(
        default=None, metadata={"help": "What the values of its vote mean, as for prepare: left=model_a same=tie."}
    )

    max_size_gb: float = field(
        default=4, metadata={"help": "What a compressed test_file may become without compression."}
    )
    max_nesting: int = field(
        default=100, metadata={"help": "How deep lists and objects of a row of test_file may be nested."}
    )

    def source(self) -> Source:
        """The file as a source."""
        assert self.test_file is not None, "check_battles_config comes first"
        return Source(
            self.test_file,
            format=self.format,
            columns=self.columns,
            votes=self.votes,
            max_size_gb=self.max_size_gb,
            max_nesting=self.max_nesting,
        )


@dataclass
class PrepareConfig:
    """Where the votes are, how they are cleaned, and how they are split."""

    sources: Sources = field(metadata={"help": "Paths of votes, or in a YAML a list of path, format, sample, swap..."})
    output_dir: str = field(metadata={"help": "The folder for the data set."})
    format: FormatName | None = field(
        default=None, metadata={"help": "The format of the sources (default: the first one whose columns a file has)."}
    )
    columns: Columns | None = field(
        default=None,
        metadata={"help": "Where the sources have what: prompt=question response_a=answer_1 vote=preferred."},
    )
    votes: Votes | None = field(
        default=None,
        metadata={"help": "What the values of the vote mean: model_a, model_b, tie, drop, or three fractions."},
    )
    blank_winner: Literal["tie", "drop"] | None = field(
        default=None, metadata={"help": "What a blank vote means: a tie, or drop the row (default: refused)."}
    )
    keep: list[str] | None = field(
        default=None, metadata={"help": "Columns of the sources that are carried into the data set."}
    )
    images: Literal["drop", "text"] = field(
        default="drop", metadata={"help": "Of messages with images: drop the row, or read the text beside them."}
    )
    max_size_gb: float = field(default=4, metadata={"help": "What a compressed file may become without compression."})
    max_nesting: int = field(default=100, metadata={"help": "How deep lists and objects of a row may be nested."})
    suggest: str | None = field(
        default=None, metadata={"help": "Instead of all this: a file, for which a guess at its columns is printed."}
    )
    duplicates: Literal["keep", "first", "soft"] = field(
        default="keep",
        metadata={"help": "Of several votes on one item in a source: all, the first, or one row with their mean."},
    )
    near_duplicates: float = field(
        default=0.8,
        metadata={"help": "Jaccard similarity from which first prompts are in one group; 0: only equal ones."},
    )
    validation_fraction: float = field(
        default=0.2, metadata={"help": "The fraction of the battles in validation; 0 for none."}
    )
    validation_size: int | None = field(
        default=None, metadata={"help": "Instead of validation_fraction: the number of battles in validation."}
    )
    validation_sources: list[str] | None = field(
        default=None, metadata={"help": "Names of the sources that validation is made of (default: all)."}
    )
    validation_ids: str | None = field(
        default=None,
        metadata={"help": "Instead of validation_fraction: a file with the ids in validation, one per line."},
    )
    num_folds: int | None = field(
        default=None, metadata={"help": "The number of folds of the training battles, for out_of_fold."}
    )
    contamination: list[str] | None = field(
        default=None, metadata={"help": "Other files: which of their battles are in the data already?"}
    )
    conversations: bool = field(
        default=False, metadata={"help": "Also write the battles as conversations for trl's SFTTrainer."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "For conversations: a tokenizer's folder or Hub id."}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "For conversations: as in the YAML of the base model."}
    )
    max_length: int = field(default=2048, metadata={"help": "For conversations: maximum tokens in an example."})
    examples: Literal["last", "all"] = field(
        default="last", metadata={"help": "For conversations: the example with the last turn of a battle, or all."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Push the data set with its card to the Hub."})
    hub_dataset_id: str | None = field(default=None, metadata={"help": "The name of the data set on the Hub."})
    hub_private_repo: bool = field(default=True, metadata={"help": "Make a new repository private."})
    publish_despite_license: list[str] | None = field(
        default=None,
        metadata={"help": "Names of sources that are pushed though their license forbids it or is unknown."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace a data set in output_dir that was made with another configuration."}
    )
    seed: int = field(default=42, metadata={"help": "Samples and splits depend on it."})

    def __post_init__(self):
        for source in self.sources:
            for name in ("format", "columns", "votes", "keep", "blank_winner"):
                if getattr(source, name) is None:
                    setattr(source, name, getattr(self, name))
            if self.images == "text":
                source.images = "text"
            source.max_size_gb = max(source.max_size_gb, self.max_size_gb)
            source.max_nesting = max(source.max_nesting, self.max_nesting)

    def files(self) -> list[str | None]:
        """What is read, if it is a path."""
        return [*(source.path for source in self.sources), *(self.contamination or ()), self.validation_ids]

    @property
    def kept(self) -> list[str]:
        """The columns that any source carries into the data set."""
        return list(dict.fromkeys(name for source in self.sources for name in source.keep or ()))

    def problems(self) -> list[str]:
        """What is wrong with the options and can be known before anything is read."""
        names = [source.name for source in self.sources]
        taken = sorted(set(self.kept) & {*OUR_COLUMNS, "first_prompt"})  # of the texts on disk, besides
        unknown = sorted(set(self.validation_sources or []) - set(names))
        is_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub_dataset_id or "")
        checks = [
            (names, "sources: there is none"),
            (
                len(set(names)) == len(names),
                f"sources: {', '.join(names)} are not all different. Give them different values of name",
            ),
            (
                not taken,
                f"keep: {', '.join(taken)} would replace a column that prepare makes itself. Rename it in the file",
            ),
            (
                len(set(stems := [Path(path).stem for path in self.contamination or ()])) == len(stems),
                f"contamination: {', '.join(stems)} are not all different. Rename the files: each has its own result",
            ),
            (not unknown, f"validation_sources: there is no source {', '.join(unknown)}"),
            (self.tokenizer or not self.conversations, "conversations: need a tokenizer"),
            (self.hub_dataset_id or not self.push_to_hub, "push_to_hub: needs hub_dataset_id, owner/name on the Hub"),
            (
                is_hub_name or self.hub_dataset_id is None,
                f"hub_dataset_id: expected owner/name, found {self.hub_dataset_id!r}",
            ),
        ]
        return [problem for is_met, problem in checks if not is_met]
