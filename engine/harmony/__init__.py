"""gpt-oss: prompts and completions in OpenAI's Harmony format."""
