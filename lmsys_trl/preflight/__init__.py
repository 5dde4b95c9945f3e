"""What is wrong with a run, before weights are loaded or a GPU is rented."""
