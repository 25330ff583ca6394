"""The commands: what each takes from the command line, and whom it calls.

Nothing slow is imported at the top of these files: `--help` must be quick.
"""
