"""Formatted text, with control characters escaped."""
