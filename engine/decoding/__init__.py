"""From logits to tokens: sampling, penalties, and what ends a completion."""
