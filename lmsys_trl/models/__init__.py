"""Base models, adapters, and what `judge.json` says of them."""
