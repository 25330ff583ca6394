"""Stop sequences: texts before which an answer ends.

They are looked for in the answer only. A text that ends the answer must not end the reasoning
before it, and headers and tool calls are not part of the answer.
"""

from collections.abc import Callable, Sequence

import msgspec

from mh_batch.jobs.generation import Channel, Parse

CHECK_EVERY = 4
"""How many tokens lie between two searches."""

Answer = Callable[[Sequence[int]], str | None]
Decode = Callable[[Sequence[int]], str]


class StopSequenceFinder:
    """Finds stop sequences in a growing completion.

    It decodes the last few tokens at every `CHECK_EVERY`th, and the whole answer only where these
    hold a stop sequence. A token is at least one byte, so no occurrence is longer than the text.
    """

    def __init__(
        self, texts: Sequence[str], decode: Decode, answer: Answer, prefill: Sequence[int] = ()
    ) -> None:
        """Take an adapter's `decode` and `answer`, and the response prefill.

        A stop sequence may begin in the prefill but not end there: the earlier attempt would have
        stopped at it.
        """
        self._texts = tuple(texts)
        self._prefill = tuple(prefill)
        self._decode = decode
        self._answer = answer
        longest = max(len(text.encode()) for text in texts)
        # and one more, because some decoders strip a space off the first token
        self._tail = CHECK_EVERY + longest + 1

    def find(self, tokens: Sequence[int], *, whole: bool = False) -> int | None:
        """Return how many of `tokens` end with the first stop sequence, `None` if there is none.

        Searches only at a multiple of `CHECK_EVERY` tokens, or if the completion is `whole`: then
        its stop token, if it has one, is not in `tokens`.
        """
        if len(tokens) % CHECK_EVERY and not whole:
            return None
        tail = self._decode([*self._prefill[-self._tail :], *tokens[-self._tail :]][-self._tail :])
        if not any(text in tail for text in self._texts) or not self._ends(tokens):
            return None
        count = len(tokens)
        while count > 1 and self._ends(tokens[: count - 1]):
            count -= 1
        return count

    def _ends(self, tokens: Sequence[int]) -> bool:
        answer = self._answer([*self._prefill, *tokens])
        return answer is not None and any(text in answer for text in self._texts)


def cut_answer(parse: Parse, texts: Sequence[str]) -> Parse:
    """Return `parse` with its last channel cut before the first stop sequence in it."""
    if not parse.channels:
        return parse
    last = parse.channels[-1]
    found = [at for text in texts if (at := last.text.find(text)) >= 0]
    if not found:
        return parse
    kept: Channel = msgspec.structs.replace(last, text=last.text[: min(found)])
    problems = parse.problems
    if not kept.text.strip() and "empty_final" not in problems:
        problems += ("empty_final",)
    return msgspec.structs.replace(
        parse,
        channels=(*parse.channels[:-1], kept),
        problems=problems,
        well_formed=not problems,
    )
