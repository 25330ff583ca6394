"""The protocol of an adapter: what one model family needs for prompts and completions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.generation import Parse, Prompt, StopReason
from mh_batch.jobs.settings import Prompting

if TYPE_CHECKING:
    from llguidance import LLTokenizer

PLAIN = Prompting()


class Adapter(Protocol):
    """Renders prompts and reads completions for one family of models."""

    @property
    def name(self) -> str:
        """The adapter's name in records, such as `harmony`."""

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
        """Return the prompt's token ids, up to where the model's answer begins.

        Texts are data: a control token spelled in them is encoded as ordinary text. Raises
        `JobError` if the model's format cannot express the conversation.
        """

    def parse(
        self,
        tokens: Sequence[int],
        stop_reason: StopReason,
        tools: Sequence[Tool] = (),
        prompting: Prompting = PLAIN,
    ) -> Parse:
        """Read a completion, its stop token included; never raises, whatever the tokens are.

        `tools` are those of the request: in some notations only they say what a call means. So
        `prompting` says in some templates whether the completion begins inside reasoning.
        """

    def grammar(self, prompt: Prompt) -> str | None:
        """Return the grammar of the whole completion of `prompt`, as JSON for llguidance.

        A response prefill belongs to the completion. `None` where nothing binds the completion: no
        form, no strict tool, and no word about whether to call one. Raises `JobError` if the calls
        of the model's format cannot be bound.
        """

    def forced_final(self, tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
        """Return the response prefill that makes the model answer now, from unended reasoning.

        It holds the reasoning in `tokens` and opens the final message. Empty if `tokens` do not end
        inside reasoning, or if the format cannot express it. The reasoning is cut at its end until
        the prefill has at most `most` ids; `None` keeps all.
        """

    def prompt_parts(self, prompt: Prompt, tokens: Sequence[int]) -> PromptParts:
        """Return where the parts of `prompt` end in `tokens`, which `render` made of it.

        These are places at which a prompt is worth cutting for reuse, so any answer is correct. In
        a good one, a place is in a prompt if and only if it is in all prompts that begin with the
        same tokens.
        """

    def answer(
        self, tokens: Sequence[int], tools: Sequence[Tool] = (), prompting: Prompting = PLAIN
    ) -> str | None:
        """Return the text of the answer if an unfinished completion is inside it, else `None`.

        Reasoning, headers and calls of the request's `tools` are not part of the answer.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""

    def token_tables(self) -> "LLTokenizer":
        """Return llguidance's tables of the vocabulary; they take about a second to make.

        A token of `stop_tokens` is their end token: it is allowed only where a form is complete.
        Raises `JobError` for a tokeniser that llguidance cannot read.
        """
