"""An adapter and battles -> predictions."""
