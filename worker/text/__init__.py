"""Text for people: formatted, and with control characters spelled out."""
