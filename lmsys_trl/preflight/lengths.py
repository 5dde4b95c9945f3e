"""Where a plan gets the lengths of examples from: a data set, a file of votes, or what the user says."""

from dataclasses import dataclass

from ..data.config import BattlesConfig
from ..data.dataset import load_battles
from ..data.sources import read_battles
from ..encoding.preview import Tally, with_votes
from ..encoding.tokenizer import load_tokenizer, resolve_tokenizer
from ..errors import UserError, collect_problems, raise_problems
from ..options import JudgeConfig
from ..training.run import select_training_data

NUM_BATTLES, MAX_STATED = 1000, 10_000_000  # if nothing is stated, and at most


@dataclass(frozen=True)
class Lengths:
    """
    Tokens of the examples of a run.

    Args:
        training (`list[int]`), prediction (`list[int]`): Of each example, at the maximum length of either.
        source (`str`): Where they are from, in words.
    """

    training: list[int]
    prediction: list[int]
    source: str


def stated_lengths(
    num_battles: int | None, mean_length: int | None, max_length: int, prediction_length: int, swapped: bool = False
) -> Lengths:
    """
    As many examples as the user says, of the mean length, of which one has the maximum length.

    Args:
        num_battles (`int`, *optional*): Examples, or half of them where each is swapped too. Default: 1,000.
        mean_length (`int`, *optional*): Tokens in an example on average. Default: the maximum.
        max_length (`int`), prediction_length (`int`): The maximum in training, and at prediction.
        swapped (`bool`): Whether both orders of the answers are trained on.

    Raises:
        UserError: If the mean is above the maximum, or there are too many for this machine's memory.
    """
    said = "assumed: give --num_battles, or name the data" if num_battles is None else "stated"
    num_battles = NUM_BATTLES if num_battles is None else num_battles
    num_examples = num_battles * (2 if swapped else 1)
    if num_battles > MAX_STATED:
        raise UserError(f"num_battles: {num_battles:,}, and {MAX_STATED:,} are the most. Hours grow in proportion")
    if mean_length is not None and mean_length > max_length:
        raise UserError(f"mean_length: {mean_length} tokens, but max_length is {max_length}. Lower it")
    mean = max_length if mean_length is None else mean_length
    words = "all as long as max_length" if mean_length is None else f"{mean:,} tokens on average"
    return Lengths(
        [max_length, *[mean] * (num_examples - 1)],
        [prediction_length, *[min(mean, prediction_length)] * (num_examples - 1)],
        f"{num_examples:,} examples, {words} ({said})",
    )


def count_lengths(
    config: JudgeConfig,
    battles: BattlesConfig,
    base: str | None,
    revision: str | None,
    tokenizer: str | None,
    lengths: tuple[int, int],
) -> Lengths:
    """
    The lengths of the training examples of a data set, or of the battles of a file, encoded with the real tokenizer.

    Args:
        config (`JudgeConfig`): Which battles are trained on.
        battles (`BattlesConfig`): The file, if there is one.
        base (`str`, *optional*), revision (`str`, *optional*), tokenizer (`str`, *optional*): Where the tokenizer is.
        lengths (`tuple[int, int]`): The maximum length in training, and at prediction.

    Raises:
        UserError: If there are no battles with a vote, or there is no tokenizer.
    """
    problems: list[str] = []
    rows, source = [], battles.test_file or f"{config.dataset_name}, train"
    with collect_problems(problems):
        if battles.test_file:
            rows = read_battles(battles.source(), lenient=True)[0]
        else:
            rows = list(with_votes(select_training_data(load_battles(config.dataset_name), config))["train"])
    try:
        folder = resolve_tokenizer(tokenizer, base, config.base_model_id, revision)
        loaded = load_tokenizer(folder, config.pad_token)
    except UserError as error:
        problems.append(f"{error}. Name a folder with --tokenizer, or state --num_battles and --mean_length")
    raise_problems(problems)
    counted = []
    for length in lengths:
        tally = Tally()
        tally.add(rows, loaded, length, config.prompt_version)
        counted.append(tally.lengths * (1 if config.swap == "none" else 2))
    if not counted[0]:
        raise UserError(f"{source}: has no battles to count")
    mean = sum(counted[0]) / len(counted[0])
    words = f"{len(counted[0]):,} examples of {source}, {mean:,.0f} tokens on average (counted)"
    return Lengths(counted[0], counted[1], words)
