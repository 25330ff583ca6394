"""Seeds, derived from the batch's seed and the job's `custom_id`, never from row ids."""

from hashlib import blake2b

from .record import AttemptKey


def _derive(*parts: int | str) -> int:
    """Hash `parts` to a 63-bit number (what an SQLite INTEGER holds without a sign)."""
    text = "\x1f".join(str(part) for part in parts)
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def job_seed(batch_seed: int, custom_id: str) -> int:
    """Return a job's seed; the same file with the same seed gives the same results."""
    return _derive("job", batch_seed, custom_id)


def attempt_seed(seed: int, key: AttemptKey) -> int:
    """Return the seed of one attempt of a job with `seed`."""
    return _derive("attempt", seed, key.choice, key.turn, key.step, key.attempt)
