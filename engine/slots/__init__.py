"""Several attempts at once: fixed rows that decode together, each on its own ordinary caches."""
