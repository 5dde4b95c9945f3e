"""The validation report: figures, plots and the page, from votes and predictions."""

METRICS_VERSION = 3  # of the format of metrics.json, which METRICS.md describes
