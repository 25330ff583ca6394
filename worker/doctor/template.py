"""Whether the model's format can render a short conversation; no weights are loaded.

It is rendered in a process of its own: a chat template is foreign code and may never end.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio

from mh_batch.engine.model.folder import find_here
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import JobError, ModelNotLoaded, ModelProcessDied
from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import Context, Sampling
from mh_batch.worker.model_process.client import COMMAND, start_model
from mh_batch.worker.options import WorkerSettings
from mh_batch.worker.text.format import format_count

from .finding import Finding, Site, failure, ok, warning

SETTINGS = WorkerSettings(hang_seconds=20.0)
"""How long the template may be silent; the libraries' start ten times that."""

QUESTION = (Message("user", "What is 2 + 3?"),)
CONVERSATION = (
    Message("system", "Be brief."),
    *QUESTION,
    Message("assistant", "5"),
    Message("user", "And one more?"),
)
_CURE = (
    "download its tokenizer_config.json and chat_template.jinja again, correct the template, "
    "or name another model"
)


class RenderResult(NamedTuple):
    """A rendered conversation: its length in tokens, or the fault."""

    tokens: int = 0
    fault: str | None = None


def template(site: Site, command: tuple[str, ...] = COMMAND) -> Iterator[Finding]:
    """Check that the model's format renders a question, and a conversation of several turns.

    `command` starts the model process. A model that is not on this machine is left to the model
    check.
    """
    try:
        folder = find_here(site.model) if site.model is not None else None
    except ModelNotLoaded:
        return
    if folder is not None:
        yield judge_template(anyio.run(render, str(folder), command))


def judge_template(found: Sequence[RenderResult]) -> Finding:
    """Judge the rendered question, and the conversation if that was tried."""
    question, *longer = found
    if question.fault is not None:
        return failure("template", f"a short question is not rendered: {question.fault}", _CURE)
    for conversation in longer:
        if conversation.fault is not None:
            text = f"a conversation of two turns is not rendered: {conversation.fault}"
            return warning("template", text, f"queue single questions only, or {_CURE}")
    return ok(
        "template", f"a short conversation is rendered, {format_count(found[-1].tokens, 'token')}"
    )


async def render(model: str, command: tuple[str, ...] = COMMAND) -> list[RenderResult]:
    """Render a question and then a conversation; stop at the first fault."""
    with tempfile.TemporaryDirectory(prefix="mh-batch-doctor-") as folder:
        log = Path(folder) / "model.log"
        found: list[RenderResult] = []
        try:
            async with start_model(log, SETTINGS, command) as client:
                try:
                    for messages in (QUESTION, CONVERSATION):
                        measured = await client.measure(model, _request(messages))
                        found.append(RenderResult(measured.prompt_tokens))
                except anyio.get_cancelled_exc_class():
                    # Ctrl-C: the template may never end
                    client.kill()
                    raise
        except (JobError, ModelNotLoaded, ModelProcessDied) as error:
            found.append(RenderResult(fault=str(error)))
        return found


def _request(messages: tuple[Message, ...]) -> GenerationRequest:
    prompt = Prompt(messages, date="2026-01-01")
    return GenerationRequest(prompt, Sampling(max_tokens=1), Context(), seed=0)
