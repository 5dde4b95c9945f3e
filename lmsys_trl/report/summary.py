"""The scores of a report as rows and as text for the terminal."""

MIN_GROUPS = 10
ORDERS = {"ab": "order as given", "ba": "answers swapped", "mean": "mean of both orders"}


def score_rows(figures: dict) -> list[tuple[str, str, dict]]:
    """The rows of the table of scores: the name of a judge or "", what is scored, and the scores."""
    rows = []
    for name, judge in figures["judges"].items():
        rows += [(name, ORDERS[order], scores) for order, scores in judge["orders"].items()]
        if not judge["orders"]:
            rows.append((name, "as predicted", judge))
        calibrated = judge["cross_fitted_temperature"]
        rows.append((name, f"cross-fitted temperature ({calibrated['temperature']:.2f})", calibrated))
    rows += [("", f"baseline: {name.replace('_', ' ')}", scores) for name, scores in figures["baselines"].items()]
    if "best_possible" in figures:
        rows.append(("", "best possible (the known probabilities)", figures["best_possible"]))
    return rows


def behind_baselines(figures: dict) -> list[str]:
    """The judges that have a higher log loss than a baseline."""
    lowest = min((scores["log_loss"]["value"] for scores in figures["baselines"].values()), default=float("inf"))
    return [name for name, judge in figures["judges"].items() if judge["log_loss"]["value"] > lowest]


def not_out_of_sample(figures: dict) -> list[tuple[str, str]]:
    """The judges that have seen these votes, or their prompts, and in what way."""
    found = []
    for name, judge in figures["judges"].items():
        if num_battles := judge.get("num_battles_with_a_training_prompt"):
            found.append(
                (name, f"{num_battles:,} of these battles share their first prompt with its training battles")
            )
        if num_battles := judge.get("num_battles_calibrated_on"):
            found.append((name, f"it was calibrated on {num_battles:,} of these battles"))
    return [(name, f"{reason}, so its figures are too good") for name, reason in found]


def format_summary(figures: dict) -> str:
    """The most important figures as a table and sentences."""
    rows = {f"{name}, {title}" if name else title: scores for name, title, scores in score_rows(figures)}
    width = max(map(len, rows))
    lines = [f"{figures['num_battles']:,} battles".ljust(width) + "  log loss  accuracy  Brier score    ECE"]
    for name, scores in rows.items():
        log_loss, accuracy, brier, ece = (scores[k]["value"] for k in ("log_loss", "accuracy", "brier_score", "ece"))
        lines.append(f"{name:{width}} {log_loss:9.4f} {accuracy:9.1%} {brier:12.4f} {ece:6.3f}")
    if figures["num_groups"] < MIN_GROUPS:
        lines.append(f"only {figures['num_groups']} groups of prompts: intervals and cross-fitted figures say little")
    lines += [f"{name}: {reason}" for name, reason in not_out_of_sample(figures)]
    for name in behind_baselines(figures):
        lines.append(f"{name} has a higher log loss than a baseline: it predicts these votes worse than that does")
    for name, judge in figures["judges"].items():
        prefix = f"{name}: " if len(figures["judges"]) > 1 else ""
        if judge["position"]:
            flip_rate = judge["position"]["flip_rate"]["value"]
            lines.append(f"{prefix}verdicts that flip when the answers are swapped: {flip_rate:.1%}")
        if "known_probabilities" in judge:
            fraction = judge["known_probabilities"]["fraction_of_achievable_gain"]["value"]
            gain = "fraction of the achievable gain (class prior to best possible log loss)"
            lines.append(f"{prefix}{gain}: {fraction:.0%}")
    return "\n".join(lines)
