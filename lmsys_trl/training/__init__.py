"""Encoded battles -> a trained adapter."""
