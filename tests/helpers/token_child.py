"""A model process that says what the user's text spells, read by the real Harmony adapter.

The text's first line names what ends the stream; the rest are the tokens, control tokens spelled
out, as many of them as the request allows. An attempt that is told something (guidance) is answered
well, unless that line says `stubborn`; one with a forced final is.
"""

import sys
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from helpers.made import generation
from helpers.scripted_child import INFO, Child
from mh_batch.engine.completion_reader import Completion, read
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.harmony.vocabulary import harmony_encoding
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason, finish_reason
from mh_batch.worker.model_process import protocol

GOOD = (
    "<|channel|>analysis<|message|>thought<|end|>"
    "<|start|>assistant<|channel|>final<|message|>good<|return|>"
)


PROMPT_TOKENS = 10


class TokenChild(Child):
    """Plays the tokens that a prompt spells."""

    @cached_property
    def adapter(self) -> HarmonyAdapter:
        """The real one."""
        return HarmonyAdapter()

    def load(self, frame: protocol.Load) -> None:
        """Be a model that is read as gpt-oss is."""
        info = msgspec.structs.replace(INFO, name=frame.model, adapter=self.adapter.name)
        self.send(protocol.Loaded(frame.id, info))

    def generate(self, frame: protocol.GenerateFrame) -> None:
        """Answer with the tokens of the script, whatever they are."""
        self.send(protocol.Generated(frame.id, self.read(frame.request)))

    def read(self, request: GenerationRequest) -> Generation:
        """Return the generation that the tokens make."""
        text, stop = script(request)
        tokens = harmony_encoding().encode(text, allowed_special="all")
        prefill, most = self.adapter.forced_final(request.forced_final), request.sampling.max_tokens
        if request.continues is not None:
            prefill, most = request.continues.tokens, request.continues.max_tokens
            tokens = tokens[len(prefill) :]
        if len(tokens) > most:
            tokens, stop = tokens[:most], StopReason.MAX_TOKENS
        parse = read(
            self.adapter, Completion(tuple(tokens), stop, prefill, (), request.prompt.tools)
        )
        return msgspec.structs.replace(
            generation(),
            tokens=tuple(tokens),
            raw=self.adapter.decode(tokens),
            finish_reason=finish_reason(stop, parse),
            stop_reason=stop,
            parse=parse,
            prompt_tokens=PROMPT_TOKENS + len(prefill),
            max_tokens=most,
            response_prefill=prefill,
        )


def script(request: GenerationRequest) -> tuple[str, StopReason]:
    """Return the tokens, spelled, and what ends them."""
    if request.forced_final:
        return "good<|return|>", StopReason.STOP_TOKEN
    line, _, text = request.prompt.messages[-1].content.partition("\n")
    reason, *manner = line.split()
    if request.prompt.guidance is not None and "stubborn" not in manner:
        return GOOD, StopReason.STOP_TOKEN
    return text, StopReason(reason)


if __name__ == "__main__":
    TokenChild(Path(sys.argv[1])).run()
