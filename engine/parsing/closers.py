"""Which ids close a message: those of Harmony, in which the parsers of all models tell it."""

RETURN = 200_002
END = 200_007
CALL = 200_012

CLOSERS = frozenset({END, RETURN, CALL})
STOPS = frozenset({RETURN, CALL})
