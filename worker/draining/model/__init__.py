"""Keeps a working model for a drain: loads it, tests it, replaces it, and finds what killed it."""
