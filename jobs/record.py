"""What the store keeps of a job, as structs."""

import json
from enum import StrEnum
from typing import Any, Literal

import msgspec

from .conversation import FunctionCall, Message, Request, ToolCall
from .errors import JobError
from .generation import FinishReason, Generation, Parse
from .settings import Sampling, Settings
from .status import Status


class Verdict(StrEnum):
    """What the controller decided about an attempt."""

    ACCEPT = "accept"
    RETRY = "retry"
    GIVE_UP = "give_up"


class AttemptKey(msgspec.Struct, frozen=True, order=True):
    """The place of an attempt in its job.

    `choice` (from 0) numbers the completions of one prompt, `turn` (from 1) the user's turns,
    `step` (from 0) the model calls of one turn, `attempt` (from 1) the attempts at one step.
    """

    choice: int = 0
    turn: int = 1
    step: int = 0
    attempt: int = 1

    @property
    def step_key(self) -> "StepKey":
        """The step that the attempt belongs to."""
        return self.choice, self.turn, self.step


StepKey = tuple[int, int, int]
"""Choice, turn and step."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt with its verdict; `retry_reason` says why it was not accepted, else `None`.

    One that `continues` goes on where the attempt before was cut, with that one's seed: all that
    one drew is the opening of its generation.
    `round` is how often the job had been put back into the queue by then (`mh-batch retry`).
    `rejected` is what a check said of a good answer that it did not accept, else `None`.
    """

    key: AttemptKey
    verdict: Verdict
    retry_reason: str | None
    seed: int
    sampling: Sampling
    generation: Generation
    rescued: bool = False
    continues: bool = False
    started_at: str = ""
    finished_at: str = ""
    round: int = 0
    rejected: str | None = None


class KeptAnswer(msgspec.Struct, frozen=True):
    """The answer at a completed step of a conversation, made from the attempt that was kept.

    `key.attempt` is the kept attempt, `attempts` how many there were. `user` is the text it
    answers (`None` for a step after a tool result).
    """

    key: AttemptKey
    user: str | None
    final: str | None
    analysis: str | None
    finish_reason: str
    attempts: int
    rescued: bool


class CompletedStep(KeptAnswer, frozen=True):
    """A step as it is stored; `complete` is false where the attempts ran out.

    `parsed` is the JSON of an answer whose form is JSON, `None` for any other.
    """

    complete: bool
    parsed: str | None = None


def assistant_message(
    key: AttemptKey, final: str | None, analysis: str | None, parse: Parse
) -> Message:
    """Return a completed step as the message that later turns and the results have.

    A call's id is made of its turn, step and place, so it is the same every time.
    """
    calls = tuple(
        ToolCall(
            id=f"call_{key.turn}_{key.step}_{i}",
            function=FunctionCall((call.recipient or "").removeprefix("functions."), call.text),
        )
        for i, call in enumerate(parse.calls)
    )
    # beside a call, the text of the commentary is the only answer
    said = final or (parse.text("commentary") if calls else None)
    return Message("assistant", said or "", thinking=analysis, tool_calls=calls)


class ClaimedJob(msgspec.Struct, frozen=True):
    """A job in the worker's hands.

    `model` is the name it must run on. `settings` are effective: the batch's with the line's own
    laid over. `seed` derives from the batch's seed and `custom_id`. `date` is the batch's day.
    `round` counts how often the job was retried: of attempts in earlier rounds only the numbers
    count. `fault` says why it cannot be run, `None` if it can; with one, `settings` are those of
    the batch, and `request` may be empty. `parallel` is the number of slots that its batch has,
    `mixed_from` the one that it had until `mix` replaced it with this claim; `None` if nothing did.
    `metadata` is the JSON object of the line's unknown keys, `None` if it had none.
    """

    id: int
    batch_id: int
    position: int
    custom_id: str
    model: str
    request: Request
    settings: Settings
    seed: int
    date: str
    round: int = 0
    fault: JobError | None = None
    parallel: int = 1
    mixed_from: int | None = None
    metadata: msgspec.Raw | None = None


class Crash(msgspec.Struct, frozen=True):
    """A crash of the model process during an attempt; a `cleared` one does not count.

    Neither does one of an attempt that was not `alone`: any of those beside it may be to blame.
    """

    key: AttemptKey
    phase: str
    signal: int | None
    exit_code: int | None
    stderr_tail: str
    cleared: bool = False
    alone: bool = True


class FinishedTurn(KeptAnswer, frozen=True):
    """A step as the results give it, with the parse of the attempt that was kept.

    `prompt_tokens` are those of the turn's prompt, `completion_tokens` all of the answer: with
    `opened_tokens` of them that attempt was begun, the others it drew in `machine_seconds`. Its
    prompt was read in `prefill_seconds`. `parsed` is the JSON of an answer whose form is JSON, as
    the model wrote it, else `None`.
    """

    prompt_tokens: int
    completion_tokens: int
    parse: Parse
    opened_tokens: int = 0
    machine_seconds: float = 0.0
    prefill_seconds: float = 0.0
    parsed: str | None = None

    @property
    def cut(self) -> bool:
        """Whether the answer was cut: by its limit of tokens or by the loop detector."""
        return self.finish_reason == FinishReason.LENGTH


class FinishedJob(msgspec.Struct, frozen=True):
    """A finished job as the results give it.

    `metadata` is the JSON object of the line's unknown keys, `None` if it had none.
    `finished_at` is UTC, ISO 8601. `turns` are in order of choice, turn and step.
    """

    id: int
    batch_id: int
    batch: str
    position: int
    custom_id: str
    status: Status
    model: str | None
    request: Request
    metadata: msgspec.Raw | None
    error_code: str | None
    error: str | None
    finished_at: str | None
    turns: tuple[FinishedTurn, ...]

    @property
    def final(self) -> str | None:
        """The last answer of the first choice; `None` if there is none."""
        return next((t.final for t in reversed(self.turns) if t.key.choice == 0), None)

    @property
    def parsed(self) -> str | None:
        """The JSON of the last answer of the first choice, if its form is JSON; else `None`."""
        return next((t.parsed for t in reversed(self.turns) if t.key.choice == 0), None)

    @property
    def rescued(self) -> bool:
        """Whether any of its answers was forced from unfinished thoughts."""
        return any(turn.rescued for turn in self.turns)

    def to_dict(self) -> dict[str, Any]:
        """Return the job as plain dictionaries, lists, texts and numbers.

        Beside the fields it has `final`, `rescued` and `parsed`, here and in each of `turns` the
        value of an answer in JSON. `metadata` is a dictionary, empty if there is none.
        """
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        for turn, step in zip(plain["turns"], self.turns, strict=True):
            turn |= turn.pop("key")
            turn["parsed"] = None if step.parsed is None else json.loads(step.parsed)
        return {
            **plain,
            "metadata": plain["metadata"] or {},
            "final": self.final,
            "parsed": None if self.parsed is None else json.loads(self.parsed),
            "rescued": self.rescued,
        }


class JobEnd(msgspec.Struct, frozen=True):
    """How a job ended; `error_code` and `error` are `None` where it went well."""

    status: Status
    error_code: str | None = None
    error: str | None = None


class History(msgspec.Struct, frozen=True):
    """Everything the store holds of a job: attempts in order, and the completed steps."""

    attempts: tuple[Attempt, ...] = ()
    turns: tuple[CompletedStep, ...] = ()


class JobLine(msgspec.Struct, frozen=True):
    """One line of an input file, checked: a job that is not stored yet.

    `number` is the 1-based line number and becomes the job's position. `custom_id` is the
    line's own, or `line-<number>`. `metadata` is the JSON object of unknown keys, or `None`.
    `own_id` is the id that its file gives it (`question_id` and the like), or `None`: it becomes
    the `custom_id` if all lines have one and no two are the same. `copy` counts the copies of one
    row (`--repeat`), 0 for a row that is there once.
    """

    number: int
    custom_id: str
    model: str | None
    request: Request
    metadata: msgspec.Raw | None = None
    own_id: str | None = None
    copy: int = 0


class SkippedModels(msgspec.Struct, frozen=True):
    """Models that a worker cannot run; their jobs stay queued and are skipped.

    `models` do not load; `in_batches` are pairs of batch and model whose weights are not those
    that the batch began with, or whose slots are refused.
    """

    models: frozenset[str] = frozenset()
    in_batches: frozenset[tuple[int, str]] = frozenset()

    def holds(self, batch_id: int, model: str) -> bool:
        """Whether jobs of this batch on this model are skipped."""
        return model in self.models or (batch_id, model) in self.in_batches


Order = Literal["submission", "prefix"]


class NewBatch(msgspec.Struct, frozen=True):
    """A batch about to be submitted.

    `source` is the file's name as the user gave it, `-` for standard input. `model` is the model
    of jobs that name none, `None` to leave it to the worker. Higher `priority` goes first. With
    `order` `prefix`, jobs that begin alike are claimed one after the other, so that the engine
    prefills their common beginning once; the results are the same in any order. `override_model`
    ignores the models that lines name: all jobs run on `model`. `given` are the names of the
    settings that somebody set, and the model's defaults fill the others; `None` fills nothing.
    `api_batch_id` is the batch of a client of `serve` that it is made for, `None` for none.
    """

    name: str
    source: str
    settings: Settings
    model: str | None = None
    priority: int = 0
    order: Order = "submission"
    override_model: bool = False
    given: tuple[str, ...] | None = None
    api_batch_id: int | None = None
