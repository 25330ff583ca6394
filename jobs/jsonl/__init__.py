"""Lines of a JSONL file, checked and turned into requests."""
