"""The adapter for gpt-oss: the Harmony format, tokenised by openai-harmony."""

from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from openai_harmony import Conversation, HarmonyError, Role

from mh_batch.engine.constraint.bounds import bounds_of
from mh_batch.engine.constraint.tables import tables_of_bytes
from mh_batch.engine.kv_cache.chunking import PromptParts
from mh_batch.engine.parsing.message import RETURN
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.errors import JobError
from mh_batch.jobs.generation import Parse, Prompt, StopReason
from mh_batch.jobs.settings import Prompting

from .forced_final import forced_final_prefill
from .grammar import harmony_grammar
from .parse_ladder import parse_harmony
from .rendering import harmony_messages
from .special_tokens import (
    CHANNEL,
    CONTROLS,
    FIRST_CONTROL,
    MESSAGE,
    START,
    VOCABULARY_SIZE,
    is_text,
    spell,
)
from .vocabulary import harmony_encoding, text_tokens

if TYPE_CHECKING:
    from llguidance import LLTokenizer
PLAIN = Prompting()


class HarmonyAdapter:
    """Renders and reads Harmony; needs no tokenizer file."""

    name = "harmony"
    control_tokens = CONTROLS
    least_vocabulary = VOCABULARY_SIZE

    def __init__(self) -> None:
        self._encoding = harmony_encoding()
        self.stop_tokens = frozenset(self._encoding.stop_tokens_for_assistant_actions())
        self._instructors = frozenset(
            self._encoding.encode(role.value)[0] for role in (Role.SYSTEM, Role.DEVELOPER)
        )

    def render(self, prompt: Prompt) -> list[int]:
        """Return the prompt's token ids, up to and including `<|start|>assistant`.

        System and developer messages become the one developer message, guidance another behind
        the last message. Raises `JobError` if a tool result belongs to no call, or if a tool's
        name cannot stand in a header.
        """
        conversation = Conversation.from_messages(list(harmony_messages(prompt)))
        try:
            return list(
                self._encoding.render_conversation_for_completion(conversation, Role.ASSISTANT)
            )
        except (HarmonyError, ValueError) as error:
            raise JobError(f"openai-harmony does not render this conversation: {error}") from error

    def parse(
        self,
        tokens: Sequence[int],
        stop_reason: StopReason,
        tools: Sequence[Tool] = (),  # noqa: ARG002
        prompting: Prompting = PLAIN,  # noqa: ARG002
    ) -> Parse:
        """Read a completion, its stop token included; never raises, and needs nothing else."""
        return parse_harmony(tokens, stop_reason)

    def grammar(self, prompt: Prompt) -> str | None:
        """Return the grammar of the whole completion, `None` where nothing binds it."""
        bounds = bounds_of(prompt)
        return None if bounds is None else harmony_grammar(bounds)

    def forced_final(self, tokens: Sequence[int], most: int | None = None) -> tuple[int, ...]:
        """Return the analysis of `tokens`, ended, and the header of a final message.

        Empty unless `tokens` end inside that analysis: where a parse says `analysis_not_ended`.
        """
        return forced_final_prefill(tokens, most)

    def prompt_parts(self, prompt: Prompt, tokens: Sequence[int]) -> PromptParts:
        """Return where the parts of a rendered prompt end.

        A message ends behind the `<|start|>` of what follows: that token stands there whether it is
        the next message, guidance or the answer.
        """
        starts = [at + 1 for at, token in enumerate(tokens[:-1]) if token == START]
        instructions = next((at for at in starts if tokens[at] not in self._instructors), 0)
        messages = tuple(at for at in starts if at > instructions)
        # with guidance, the last one is not shared
        shared = messages[:-1] if prompt.guidance else messages
        return PromptParts(instructions, messages, max(shared, default=instructions))

    def answer(
        self,
        tokens: Sequence[int],
        tools: Sequence[Tool] = (),  # noqa: ARG002
        prompting: Prompting = PLAIN,  # noqa: ARG002
    ) -> str | None:
        """Return the text of an open final message so far, or `None` outside of one.

        Tokens without any structure are an answer, as they are to the parser.
        """
        text = len(tokens)
        while text and is_text(tokens[text - 1]):
            text -= 1
        if not text:
            return spell(tokens)
        if tokens[text - 1] != MESSAGE:
            return None
        name = text - 1
        while name and is_text(tokens[name - 1]):
            name -= 1
        if not name or tokens[name - 1] != CHANNEL:
            return None
        return spell(tokens[text:]) if spell(tokens[name : text - 1]).strip() == "final" else None

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens` with control tokens spelled out."""
        return spell(tokens)

    def token_tables(self) -> "LLTokenizer":
        """Return llguidance's tables of the vocabulary, made once a process."""
        return _token_tables()


@cache
def _token_tables() -> "LLTokenizer":
    """Return the tables of the vocabulary, with `<|return|>` as its end token."""
    encoding = harmony_encoding()
    special = range(FIRST_CONTROL, VOCABULARY_SIZE)
    names = [encoding.decode([token]).encode() for token in special]
    # what only looks like a control token is text
    encode = partial(encoding.encode, disallowed_special=())
    return tables_of_bytes([*text_tokens(), *names], special, RETURN, encode)
