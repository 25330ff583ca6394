"""`mh-batch show`: one conversation in readable form."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from rich.console import Console
from sqlite_utils import Database

from mh_batch.jobs.conversation import Message, ToolCall
from mh_batch.jobs.generation import Channel, Timings, decode_speed, decoded_tokens
from mh_batch.jobs.record import Attempt, AttemptKey, FinishedJob, FinishedTurn, StepKey
from mh_batch.jobs.results.transcript import Turns, choices, transcript
from mh_batch.jobs.settings import Sampling
from mh_batch.store.changes.retry_settings import RetryChange, retry_changes
from mh_batch.store.lookup import find_one_job, same_custom_id
from mh_batch.store.queue import read_history
from mh_batch.store.reports.results import finished_job
from mh_batch.worker.text.console import console, print_text
from mh_batch.worker.text.format import as_text, format_count

from .json_answer import readable_channels

SHOWN_OTHERS = 5
STYLES = {"user": "bold cyan", "system": "magenta", "developer": "magenta", "tool": "yellow"}


def print_job(db: Database, ref: str, with_attempts: bool) -> None:
    """Print one conversation; `with_attempts` adds every attempt with its verdict and its text."""
    target = find_one_job(db, ref)
    assert target.job_id is not None, "the target is a job"
    job = finished_job(db, target.job_id)
    attempts = read_history(db, job.id).attempts if with_attempts else ()
    out = console()
    title = f"job {job.id} · {job.custom_id} · batch {job.batch} · {job.status}"
    if job.rescued:
        title += " · rescued"
    if with_attempts:
        title += f" · {format_count(len(attempts), 'attempt')}"
    print_text(out, title)
    if attempts and (sampled := _sampled(attempts[0])):
        print_text(out, f"sampled with {sampled}", "dim")
    for change in retry_changes(db, job.id):
        print_text(out, change_line(change), "dim")
    if job.error:
        print_text(out, f"{job.error_code}: {job.error}", "red")
    _print_conversation(out, job, attempts)
    completed = {turn.key.step_key for turn in job.turns}
    for step in _steps(a for a in attempts if a.key.step_key not in completed):
        _print_attempts(out, step, kept=None)


def ambiguity_note(db: Database, ref: str) -> str | None:
    """Return a note if `ref` also names jobs of other batches; `None` if it names one only."""
    target = find_one_job(db, ref)
    others = same_custom_id(db, target, ref)
    if not others:
        return None
    more = f" and {len(others) - SHOWN_OTHERS} more" if len(others) > SHOWN_OTHERS else ""
    return (
        f"{ref}: this is {target.label} of batch {target.batch_id}; "
        f"the others: {', '.join(others[:SHOWN_OTHERS])}{more}"
    )


def change_line(change: RetryChange) -> str:
    """Return a line about the settings that a retry gave to a job."""
    pairs = ((name, change.before[name], value) for name, value in change.settings.items())
    changed = ", ".join(f"{name} {as_text(old)} → {as_text(new)}" for name, old, new in pairs)
    return f"retry {change.round} ({change.at[:16].replace('T', ' ')}): {changed}"


def attempt_line(attempt: Attempt, first: Attempt) -> str:
    """Return one attempt in a line: verdict, stop reason, tokens, seconds, changed sampling.

    The speed is that of all attempts that decoded beside it.
    Sampling is compared with that of `first`, the first attempt of its step.
    """
    generation, t = attempt.generation, attempt.generation.timings
    tokens_per_second = decode_speed(decoded_tokens(t.completion_tokens), t.machine_seconds)
    speed = f"{tokens_per_second:.1f} tok/s" if tokens_per_second else "no decode"
    why = (
        f"{attempt.retry_reason}: {attempt.rejected}" if attempt.rejected else attempt.retry_reason
    )
    reason = f" ({why})" if why else ""
    parts = [
        f"{_step_name(attempt.key)}attempt {attempt.key.attempt}: {attempt.verdict}{reason}",
        *(["rescued"] if attempt.rescued else []),
        *([f"goes on from attempt {attempt.key.attempt - 1}"] if attempt.continues else []),
        generation.stop_reason,
        f"{generation.parse.tier} parse",
        *generation.parse.problems,
        f"seed {attempt.seed}",
        *_changes(attempt, first),
        f"{t.prompt_tokens} + {format_count(t.completion_tokens, 'token')}",
        f"prefill {t.prefill_seconds:.2f} s",
        f"decode {t.decode_seconds:.2f} s{_shared(t)}",
        speed,
    ]
    return "  " + ", ".join(parts)


def _shared(t: Timings) -> str:
    """Return how an attempt shared the machine with others; empty if it had all of it."""
    if t.parallel == 1:
        return ""
    return (
        f" ({t.rows:.1f} of {t.parallel} slots busy, {t.stall_seconds:.2f} s for other prompts, "
        f"{t.machine_seconds:.2f} s of the machine)"
    )


def _step_name(key: AttemptKey) -> str:
    """Return which call of the model it was in its turn; empty for the first."""
    return f"step {key.step}, " if key.step else ""


def _print_conversation(out: Console, job: FinishedJob, attempts: tuple[Attempt, ...]) -> None:
    by_step = {step[0].key.step_key: step for step in _steps(attempts)}
    given = len(job.request.messages)
    for message in job.request.messages:
        _print_given(out, message)
    for turns in choices(job) or ((),):
        if job.request.n > 1 and turns:
            print_text(out, f"══ choice {turns[0].key.choice}", "bold")
        for entry in transcript(job.request, turns)[given:]:
            if entry.turn is None:
                _print_given(out, entry.message)
            elif entry.turn.key.step_key in by_step:
                _print_attempts(out, by_step[entry.turn.key.step_key], entry.turn)
            else:
                channels = readable_channels(entry.turn)
                _print_channels(out, "assistant", channels, entry.turn.cut)
        for text in _unanswered(job, turns):
            _print_said(out, "user · not answered", text, STYLES["user"])


def _unanswered(job: FinishedJob, turns: Turns) -> tuple[str, ...]:
    """Return the user's turns that one choice has not completed."""
    completed = turns[-1].key.turn if turns else 0
    # if the context ends with a question, that was the first turn
    return job.request.turns[max(completed - job.request.asks, 0) :]


def _print_attempts(out: Console, attempts: list[Attempt], kept: FinishedTurn | None) -> None:
    """Print the attempts of one step: the text of `kept` as the answer, others as rejected.

    The text of an attempt that a later one continues is part of that one's text: it is not
    printed twice.
    """
    continued = {attempt.key.attempt - 1 for attempt in attempts if attempt.continues}
    for attempt in attempts:
        print_text(out, attempt_line(attempt, attempts[0]), "dim")
        if kept is not None and attempt.key == kept.key:
            _print_channels(out, "assistant", readable_channels(kept), kept.cut)
            continue
        if attempt.key.attempt in continued:
            continue
        who = f"rejected attempt {attempt.key.attempt}"
        channels = attempt.generation.parse.channels or (Channel("raw", attempt.generation.raw),)
        _print_channels(out, who, channels)


def _print_given(out: Console, message: Message) -> None:
    who = f"{message.role} · {message.name}" if message.name else message.role
    if message.thinking:
        _print_said(out, f"{who} · analysis", message.thinking, "dim")
    if message.content or not message.tool_calls:
        _print_said(out, who, message.content, STYLES.get(message.role, "green"))
    for call in message.tool_calls:
        _print_said(out, f"{who} · {_called(call)}", call.function.arguments, "green")


def _print_channels(out: Console, who: str, channels: Sequence[Channel], cut: bool = False) -> None:
    """Print the channels of an answer; if it was `cut`, its last one says so."""
    for number, channel in enumerate(channels, start=1):
        to = f" to {channel.recipient}" if channel.recipient else ""
        style = "dim" if channel.channel == "analysis" or who != "assistant" else "green"
        end = " · cut" if cut and number == len(channels) else ""
        _print_said(out, f"{who} · {channel.channel}{to}{end}", channel.text, style)


def _print_said(out: Console, who: str, text: str, style: str) -> None:
    print_text(out, f"── {who}", style)
    print_text(out, text)


def _called(call: ToolCall) -> str:
    return f"commentary to functions.{call.function.name}"


def _steps(attempts: Iterable[Attempt]) -> Iterator[list[Attempt]]:
    steps: dict[StepKey, list[Attempt]] = {}
    for attempt in attempts:
        steps.setdefault(attempt.key.step_key, []).append(attempt)
    yield from steps.values()


def _sampled(attempt: Attempt) -> str:
    """Return the sampling of an attempt where it differs from the built-in values."""
    used, built_in = (msgspec.structs.asdict(s) for s in (attempt.sampling, Sampling()))
    return ", ".join(f"{name} {used[name]}" for name in used if used[name] != built_in[name])


def _changes(attempt: Attempt, first: Attempt) -> list[str]:
    before, now = (msgspec.structs.asdict(a.sampling) for a in (first, attempt))
    return [f"{name} {before[name]} → {now[name]}" for name in now if before[name] != now[name]]
