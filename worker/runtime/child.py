"""Python processes of our own."""

import sys

PYTHON = (sys.executable, "-P")
"""How each of them begins.

Without `-P` modules are looked for in the working folder first, and a `random.py` that lies there
beside the data would be run.
"""
