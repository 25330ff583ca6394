"""The commands: what each takes from the command line, and whom it calls.

Only typer is imported at the top of these files: `--help` must be quick.
"""
