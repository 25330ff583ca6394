"""What tests share: makers of values, processes that play a part, places in the repository."""
