"""The first paragraph of a report: what its figures say, in plain words."""

from collections.abc import Callable

from .summary import MIN_GROUPS

GUESSING = "guessing by how frequent each vote is (the class prior)"
STYLE = "a logistic regression on style (length and formatting)"
RELATIONS = ("better than", "not shown to be better than", "worse than")


def best_first(figures: dict) -> list[str]:
    """The judges, that with the lowest log loss first."""
    return sorted(figures["judges"], key=lambda name: figures["judges"][name]["log_loss"]["value"])


def conclusion(figures: dict, show: Callable[[str], str]) -> str:
    """
    Say how good the best judge is: against guessing, style and the next judge, and with the answers swapped.

    Args:
        figures (`dict`): As made by [`report_figures`].
        show (`Callable`): Makes the name of a judge fit into the text: escapes it.

    Returns:
        `str`: A few sentences. A difference whose interval includes 0, or that has none, is "not shown".
    """
    best, *others = best_first(figures)
    judge, num_battles = figures["judges"][best], f"{figures['num_battles']:,} battles"
    log_loss = f"{judge['log_loss']['value']:.3f}"
    sentences = [f"On {num_battles} {show(best)} has a log loss of {log_loss}."]
    if others:
        num_judges = len(figures["judges"])
        sentences = [f"Of {num_judges} judges on {num_battles} {show(best)} has the lowest log loss, {log_loss}."]
    sentences.append(_comparison(_difference(figures, best, "class_prior"), GUESSING))
    if "logistic_regression" in figures["baselines"]:
        sentences.append(_comparison(_difference(figures, best, "logistic_regression"), STYLE))
    else:
        sentences.append(f"It was not compared with {STYLE}, since no texts are known.")
    if others:
        sentences.append(_comparison(_difference(figures, best, others[0]), f"the next judge, {show(others[0])}"))
    if judge["position"]:
        flips = judge["position"]["flip_rate"]
        interval = "" if flips["low"] is None else f" (95% interval {flips['low']:.1%} to {flips['high']:.1%})"
        sentences.append(f"Swapping the answers flips {flips['value']:.1%} of its verdicts{interval}.")
    else:
        sentences.append("How often its verdicts flip when the answers are swapped is not known.")
    for relation in RELATIONS:
        names = [show(name) for name in others if _relation(_difference(figures, name, "class_prior")) == relation]
        if names:
            sentences.append(f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {relation} guessing.")
    if "known_probabilities" in judge:
        fraction = judge["known_probabilities"]["fraction_of_achievable_gain"]["value"]
        sentences.append(f"It achieves {fraction:.0%} of the gain over guessing that the known probabilities allow.")
    if figures["num_groups"] < MIN_GROUPS:
        sentences.append(
            f"These battles have only {figures['num_groups']} different prompts: the intervals say little."
        )
    return " ".join(sentences)


def _difference(figures: dict, judge: str, other: str) -> dict:
    """The log loss of a judge minus that of another or of a baseline. A pair of judges is in the figures once."""
    by_pair = {(row["judge"], row["baseline"]): row["log_loss"] for row in figures["differences"]}
    if (judge, other) in by_pair:
        return by_pair[judge, other]
    f = by_pair[other, judge]
    low, high = (None, None) if f["low"] is None else (-f["high"], -f["low"])
    return {"value": -f["value"], "low": low, "high": high}


def _relation(difference: dict) -> str:
    better, unknown, worse = RELATIONS
    if difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return unknown
    return better if difference["high"] < 0 else worse


def _comparison(difference: dict, other: str) -> str:
    """The best judge and another one, with the size of the difference and its interval."""
    value, low, high = (difference[key] for key in ("value", "low", "high"))
    relation, size = _relation(difference), f"{abs(value):.3f} {'lower' if value <= 0 else 'higher'}"
    if low is None:
        interval = ", and there are too few prompts for an interval"
    elif relation == RELATIONS[1]:
        interval = f" (95% interval {abs(low):.3f} lower to {high:.3f} higher)"
    else:
        near, far = sorted((abs(low), abs(high)))
        interval = f" (95% interval {near:.3f} to {far:.3f})"
    return f"It is {relation} {other}: its log loss is {size}{interval}."
