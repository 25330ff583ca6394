"""The version of the code that decodes in slots."""

SLOTS_VERSION = "1"
"""Raised with every change here that may change a result: verdicts of older code count no more."""
