"""Fitting prompts to the context: which of the oldest turns a prompt goes without."""
