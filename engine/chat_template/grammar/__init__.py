"""Completions of models with a chat template as grammars."""
