"""The commands: options and exit codes; each calls what does the work.

Slow modules are imported inside the functions: `--help` must be fast.
"""
