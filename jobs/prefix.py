"""A number that sorts jobs with the same beginning together."""

from hashlib import blake2b

import msgspec

from .conversation import Request

_ORDER_BITS = 31


def prefix_key(request: Request) -> int:
    """Return a number that is the same for requests with the same beginning, never 0.

    Its upper half hashes the instructions and tools, its lower half all messages but the last: jobs
    with the same instructions follow one another, and among them those with the same conversation.
    """
    leading = [m for m in request.messages if m.role in ("system", "developer")]
    upper = _hash((leading, request.tools))
    return (upper << _ORDER_BITS | _hash(request.messages[:-1])) or 1


def _hash(value: object) -> int:
    digest = blake2b(msgspec.msgpack.encode(value), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1
