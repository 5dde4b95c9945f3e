"""The folder that `evaluate.load` takes for the metric brier_score."""
