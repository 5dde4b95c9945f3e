"""Tables of probabilities: calibration, ensembles, baselines. No model and no torch in here."""
