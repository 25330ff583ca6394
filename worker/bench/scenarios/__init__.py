"""The scenarios, one module per subject."""
