"""The folder that `evaluate.load` takes for the metric flip_rate."""
