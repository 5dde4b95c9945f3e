"""Battles -> prompts, tokens and batches."""
