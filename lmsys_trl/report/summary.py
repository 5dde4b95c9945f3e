"""The scores of a report as rows and as text for the terminal."""

MIN_GROUPS = 10
ORDERS = {"ab": "order as given", "ba": "answers swapped", "mean": "mean of both orders"}


def score_rows(figures: dict) -> dict[str, dict]:
    """The rows of the table of scores: a title, and the scores of a judge in one order, a baseline and so on."""
    rows = {}
    for name, judge in figures["judges"].items():
        for order, scores in judge["orders"].items():
            rows[f"{name}, {ORDERS[order]}"] = scores
        if not judge["orders"]:
            rows[name] = judge
        calibrated = judge["cross_fitted_temperature"]
        rows[f"{name}, cross-fitted temperature ({calibrated['temperature']:.2f})"] = calibrated
    for name, scores in figures["baselines"].items():
        rows[f"baseline: {name.replace('_', ' ')}"] = scores
    if "best_possible" in figures:
        rows["best possible (the known probabilities)"] = figures["best_possible"]
    return rows


def behind_baselines(figures: dict) -> list[str]:
    """The judges that have a higher log loss than a baseline."""
    lowest = min((scores["log_loss"]["value"] for scores in figures["baselines"].values()), default=float("inf"))
    return [name for name, judge in figures["judges"].items() if judge["log_loss"]["value"] > lowest]


def format_summary(figures: dict) -> str:
    """The most important figures as a table and sentences."""
    rows = score_rows(figures)
    width = max(map(len, rows))
    lines = [f"{figures['num_battles']:,} battles".ljust(width) + "  log loss  accuracy  Brier score    ECE"]
    for name, scores in rows.items():
        log_loss, accuracy, brier, ece = (scores[k]["value"] for k in ("log_loss", "accuracy", "brier_score", "ece"))
        lines.append(f"{name:{width}} {log_loss:9.4f} {accuracy:9.1%} {brier:12.4f} {ece:6.3f}")
    if figures["num_groups"] < MIN_GROUPS:
        lines.append(f"only {figures['num_groups']} groups of prompts: intervals and cross-fitted figures say little")
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
