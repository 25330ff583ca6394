"""The command `show`: one conversation as a person reads it."""

from collections.abc import Iterable, Iterator

import msgspec
from rich.console import Console
from sqlite_utils import Database

from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.generation import Channel
from mh_batch.jobs.record import Attempt, AttemptKey, FinishedJob, FinishedTurn, Step
from mh_batch.jobs.results.transcript import Turns, choices, transcript
from mh_batch.store.queue import recorded
from mh_batch.store.queue.cancel_retry import find_one_job, same_custom_id
from mh_batch.store.reports.results import finished_job
from mh_batch.worker.text.console import console, plain
from mh_batch.worker.text.format import count

SHOWN_OTHERS = 5
STYLES = {"user": "bold cyan", "system": "magenta", "developer": "magenta", "tool": "yellow"}


def print_job(db: Database, ref: str, with_attempts: bool) -> None:
    """Print one conversation; `with_attempts` adds every attempt with its verdict and its text."""
    target = find_one_job(db, ref)
    assert target.job_id is not None, "a job was looked for"
    job = finished_job(db, target.job_id)
    attempts = recorded(db, job.id).attempts if with_attempts else ()
    out = console()
    title = f"job {job.id} · {job.custom_id} · batch {job.batch} · {job.status}"
    if job.rescued:
        title += " · rescued"
    if with_attempts:
        title += f" · {count(len(attempts), 'attempt')}"
    out.print(plain(title))
    if job.error:
        out.print(plain(f"{job.error_code}: {job.error}", "red"))
    _print_conversation(out, job, attempts)
    settled = {turn.key.step_key for turn in job.turns}
    for tries in _steps(a for a in attempts if a.key.step_key not in settled):
        _print_attempts(out, tries, kept=None)


def doubt(db: Database, ref: str) -> str | None:
    """Return what to tell where other batches have such a job too, `None` where none has."""
    target = find_one_job(db, ref)
    others = same_custom_id(db, target, ref)
    if not others:
        return None
    more = f" and {len(others) - SHOWN_OTHERS} more" if len(others) > SHOWN_OTHERS else ""
    return (
        f"{ref}: this is {target.label} of batch {target.batch_id}; "
        f"the others: {', '.join(others[:SHOWN_OTHERS])}{more}"
    )


def attempt_line(attempt: Attempt, first: Attempt) -> str:
    """Return one attempt in a line: verdict, why it ended, tokens, seconds, what was different.

    `first` is the first attempt of its step: sampling is told where it is not the same.
    """
    generation, t = attempt.generation, attempt.generation.timings
    speed = f"{t.tokens_per_second:.1f} tok/s" if t.tokens_per_second else "no decode"
    reason = f" ({attempt.retry_reason})" if attempt.retry_reason else ""
    parts = [
        f"{_step_name(attempt.key)}attempt {attempt.key.attempt}: {attempt.verdict}{reason}",
        *(["rescued"] if attempt.rescued else []),
        *([f"goes on from attempt {attempt.key.attempt - 1}"] if attempt.continues else []),
        generation.stop_reason,
        f"{generation.parse.tier} parse",
        *generation.parse.problems,
        f"seed {attempt.seed}",
        *_changes(attempt, first),
        f"{t.prompt_tokens} + {count(t.completion_tokens, 'token')}",
        f"prefill {t.prefill_seconds:.2f} s",
        f"decode {t.decode_seconds:.2f} s",
        speed,
    ]
    return "  " + ", ".join(parts)


def _step_name(key: AttemptKey) -> str:
    """Return which call of the model it was in its turn; nothing for the first."""
    return f"step {key.step}, " if key.step else ""


def _print_conversation(out: Console, job: FinishedJob, attempts: tuple[Attempt, ...]) -> None:
    tries = {step[0].key.step_key: step for step in _steps(attempts)}
    given = len(job.request.messages)
    for message in job.request.messages:
        _print_given(out, message)
    for turns in choices(job) or ((),):
        if job.request.n > 1 and turns:
            out.print(plain(f"══ choice {turns[0].key.choice}", "bold"))
        for said in transcript(job.request, turns)[given:]:
            if said.turn is None:
                _print_given(out, said.message)
            elif said.turn.key.step_key in tries:
                _print_attempts(out, tries[said.turn.key.step_key], said.turn)
            else:
                _print_channels(out, "assistant", said.turn.parse.channels)
        for text in _unanswered(job, turns):
            _print_text(out, "user · not answered", text, STYLES["user"])


def _unanswered(job: FinishedJob, turns: Turns) -> tuple[str, ...]:
    """Return the user's turns that one choice has not come to, or not settled."""
    settled = turns[-1].key.turn if turns else 0
    # where the context asks, its own question was the first turn
    return job.request.turns[max(settled - job.request.asks, 0) :]


def _print_attempts(out: Console, tries: list[Attempt], kept: FinishedTurn | None) -> None:
    """Print the attempts of one step; the text of `kept` as the answer, of others as rejected.

    What an attempt goes on from is in its own text, and not printed before.
    """
    going_on = {attempt.key.attempt - 1 for attempt in tries if attempt.continues}
    for attempt in tries:
        out.print(plain(attempt_line(attempt, tries[0]), "dim"))
        if kept is not None and attempt.key == kept.key:
            _print_channels(out, "assistant", kept.parse.channels)
            continue
        if attempt.key.attempt in going_on:
            continue
        who = f"rejected attempt {attempt.key.attempt}"
        channels = attempt.generation.parse.channels or (Channel("raw", attempt.generation.raw),)
        _print_channels(out, who, channels)


def _print_given(out: Console, message: Message) -> None:
    """Print a message that was not generated here."""
    who = f"{message.role} · {message.name}" if message.name else message.role
    if message.thinking:
        _print_text(out, f"{who} · analysis", message.thinking, "dim")
    if message.content or not message.tool_calls:
        _print_text(out, who, message.content, STYLES.get(message.role, "green"))
    for call in message.tool_calls:
        _print_text(out, f"{who} · {_called(call)}", call.function.arguments, "green")


def _print_channels(out: Console, who: str, channels: Iterable[Channel]) -> None:
    for channel in channels:
        to = f" to {channel.recipient}" if channel.recipient else ""
        style = "dim" if channel.channel == "analysis" or who != "assistant" else "green"
        _print_text(out, f"{who} · {channel.channel}{to}", channel.text, style)


def _print_text(out: Console, who: str, text: str, style: str) -> None:
    out.print(plain(f"── {who}", style))
    out.print(plain(text))


def _called(call: ToolCall) -> str:
    return f"commentary to functions.{call.function.name}"


def _steps(attempts: Iterable[Attempt]) -> Iterator[list[Attempt]]:
    """Yield the attempts of each step, in order."""
    steps: dict[Step, list[Attempt]] = {}
    for attempt in attempts:
        steps.setdefault(attempt.key.step_key, []).append(attempt)
    yield from steps.values()


def _changes(attempt: Attempt, first: Attempt) -> list[str]:
    """Return what of the sampling differs from the first attempt's."""
    before, now = (msgspec.structs.asdict(a.sampling) for a in (first, attempt))
    return [f"{name} {before[name]} → {now[name]}" for name in now if before[name] != now[name]]
