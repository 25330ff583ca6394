"""The tolerant parser: reads what openai-harmony's own does not."""
