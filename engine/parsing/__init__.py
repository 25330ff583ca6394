"""What the parsers of all models share."""
