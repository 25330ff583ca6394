"""How child processes in Python are started."""

import sys

PYTHON = (sys.executable, "-P")
"""The beginning of each command.

Without `-P`, Python imports from the working folder first: a `random.py` beside the data would run.
"""
