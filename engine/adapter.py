"""What a model family must bring: prompts in, channels out."""

from collections.abc import Sequence
from typing import Protocol

from mh_batch.engine.kv_cache.chunking import Boundaries
from mh_batch.jobs.generation import Parse, Prompt, StopReason


class Adapter(Protocol):
    """Renders prompts and reads completions for one family of models."""

    @property
    def name(self) -> str:
        """How the adapter is called in records, such as `harmony`."""

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The token ids that end a completion."""

    @property
    def control_tokens(self) -> frozenset[int]:
        """The token ids that are structure and not text, `stop_tokens` among them."""

    @property
    def least_vocabulary(self) -> int:
        """The size of the smallest vocabulary that has every id that `render` may return.

        0 where the tokeniser comes with the model.
        """

    def render(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, up to where the model is to go on.

        Texts are data: what spells a control token in them is encoded as ordinary text. Raises
        `JobError` if the model's format cannot express the conversation.
        """

    def parse(self, tokens: Sequence[int], stop_reason: StopReason) -> Parse:
        """Read a completion, its stop token included; never raises, whatever the tokens are."""

    def forced_final(self, tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
        """Return the response prefill that makes the model answer now, from unended reasoning.

        It holds the reasoning in `tokens` and opens the final message. Empty if `tokens` do not end
        inside reasoning, or if the format cannot express it. The reasoning is cut at its end until
        the prefill has at most `most` ids; `None` keeps all.
        """

    def boundaries(self, prompt: Prompt, tokens: Sequence[int]) -> Boundaries:
        """Return where the parts of `prompt`, which `render` made `tokens` of, end.

        It only says where a prompt is worth cutting for reuse: any answer is right. A good one has
        a place in a prompt if and only if it has it in all that begin with the same tokens.
        """

    def answer(self, tokens: Sequence[int]) -> str | None:
        """Return the text of the answer if an unfinished completion is inside it, else `None`.

        Reasoning, headers and tool calls are no answer.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
