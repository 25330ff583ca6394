"""The proof of crash equivalence: nights full of kills against one that nothing disturbed."""
