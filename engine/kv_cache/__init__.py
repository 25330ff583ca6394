"""KV caches: their windows, how prompts are read into them, and which states are kept."""
