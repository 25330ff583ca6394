"""Finished texts against JSON schemas, by jsonschema: the one place that does so."""
