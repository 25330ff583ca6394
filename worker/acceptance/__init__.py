"""Whether a good answer is what the user wants: rules and functions, apart from the worker."""
