"""The version of the code that decodes in slots."""

SLOTS_VERSION = "2"
"""Raised with every change here that may change a result, and with every new check of a self-test.

Verdicts of older code count no more.
"""
