"""The prompts of a self-test: token ids of no meaning, the same each time."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from mh_batch.engine.slots.support import SlotSupport
from mh_batch.jobs.settings import Context

STEPS = 4
"""How many tokens are decoded behind each prompt."""

KV_WINDOW = 64
SHORT_LENGTHS = (5, 20)
LONG = 1024
LONGEST = 4096
"""Numbers of keys at which kernels may change; the second takes long and is not always tried."""


class Sample(NamedTuple):
    """A prompt, the tokens that are decoded behind it, and how its caches are made.

    The first of `fed` is the last token of the prompt.
    """

    name: str
    prompt: tuple[int, ...]
    fed: tuple[int, ...]
    context: Context = Context()


class Vocabulary:
    """The ids that prompts are made of: all but control tokens."""

    def __init__(self, size: int, control: Collection[int]) -> None:
        self._ids = [token for token in range(size) if token not in control]

    def ids(self, count: int, seed: int) -> tuple[int, ...]:
        """Return `count` ids, the same for the same `seed`."""
        state, made = seed, []
        for _ in range(count):
            # Knuth's linear congruential generator; its high bits are the good ones
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            made.append(self._ids[(state >> 33) % len(self._ids)])
        return tuple(made)

    def sample(self, length: int, name: str, context: Context | None = None) -> Sample:
        """Return a sample with a prompt of this length."""
        ids = self.ids(length + STEPS, seed=length)
        fed = ids[length - 1 : length - 1 + STEPS]
        return Sample(f"{length:,} tokens ({name})", ids[:length], fed, context or Context())


def samples(
    vocabulary: Vocabulary, support: SlotSupport, most: int | None, *, thorough: bool
) -> Sequence[Sample]:
    """Return short prompts, and one for every window and number of keys that a decode may cross.

    `most` is the model's context in tokens, `None` if unknown; what is longer is left out.
    """
    limit = LONGEST if thorough else LONG
    lengths = [(length, "short") for length in SHORT_LENGTHS]
    windows = sorted({window for window in support.windows if window is not None})
    crossed = [(window, "crosses the sliding window") for window in windows if window <= limit]
    crossed += [(LONG, f"crosses {LONG:,} keys")]
    crossed += [(LONGEST, f"crosses {LONGEST:,} keys")] if thorough else []
    # one token before: the step after the first then attends to as many keys as the name says
    lengths += [(max(keys - 1, 2), name) for keys, name in crossed]
    made = [vocabulary.sample(length, name) for length, name in lengths]
    window = Context(max_kv_size=KV_WINDOW)
    made.append(vocabulary.sample(KV_WINDOW - 1, "crosses the KV window", window))
    if thorough:
        made.append(vocabulary.sample(3 * KV_WINDOW, "beyond the KV window", window))
    return [sample for sample in made if most is None or len(sample.prompt) + STEPS <= most]
