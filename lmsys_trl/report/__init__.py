"""The validation report: figures, plots and the page. It reads predictions and knows no model."""
