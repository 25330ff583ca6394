"""Models with a chat template: prompts and completions of all others."""
