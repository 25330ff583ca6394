"""Forms that completions must have: what may come next, by llguidance."""
