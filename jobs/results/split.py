"""Assigns conversations to the parts of a data set, by their `custom_id` alone."""

import hashlib
import math
import re

import msgspec

from mh_batch.jobs.errors import InputError

EXAMPLE = "train=0.9,valid=0.05,test=0.05"


class Split(msgspec.Struct, frozen=True):
    """The parts with their shares, which add up to 1, and the seed."""

    shares: tuple[tuple[str, float], ...]
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int) -> "Split":
        """Build a split from a text such as `train=0.9,test=0.1`; raises `InputError`."""
        shares: dict[str, float] = {}
        for part in text.split(","):
            name, _, share = (piece.strip() for piece in part.partition("="))
            if not re.fullmatch("[A-Za-z0-9_-]+", name):
                raise InputError(f"--split {text}: {part!r} is not name=share, as in {EXAMPLE}")
            if name in shares:
                raise InputError(f"--split {text}: {name} is in it twice")
            shares[name] = _share(text, share)
        total = math.fsum(shares.values())
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise InputError(f"--split {text}: the shares add up to {total:g}, not to 1")
        return cls(tuple(shares.items()), seed)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(name for name, _ in self.shares)

    def part(self, custom_id: str) -> str:
        """Return the part that the conversation belongs to.

        It depends only on the seed, the shares and `custom_id`, so all rows of a conversation are
        in one part, and stay there when other jobs join the batch.
        """
        digest = hashlib.sha256(f"{self.seed}\0{custom_id}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        upto = 0.0
        for name, share in self.shares:
            upto += share
            if drawn < upto:
                return name
        return self.shares[-1][0]


WHOLE = Split((("train", 1.0),))
"""One part that all belong to, by the name that trainers look for."""


def _share(text: str, share: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= 1.0:
        raise InputError(f"--split {text}: {share!r} is no share above 0 and up to 1")
    return value
