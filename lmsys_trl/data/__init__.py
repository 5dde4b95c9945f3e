"""Votes, wherever they come from -> a clean data set without leaks."""
