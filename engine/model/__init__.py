"""A model and where it runs: its files, weights, fingerprint, device and memory."""
