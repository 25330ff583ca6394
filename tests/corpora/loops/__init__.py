"""Two corpora for the loop detector: honest answers that have to repeat themselves, and loops."""
