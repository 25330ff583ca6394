"""Stores new parses of a batch beside the old ones, and decides what they change.

A parse is added, never replaced; the newest is the current one. An answer in `turns` changes with
it only if nothing depends on the old parse: what a later turn saw, or will see when the job is
retried, stays as it is. A well-formed answer is not replaced by a parse that is not.
"""

from collections.abc import Iterator, Mapping

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Request, Tool
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.generation import Parse, StopReason, finish_reason
from mh_batch.jobs.record import Attempt, AttemptKey
from mh_batch.jobs.settings import Prompting, Settings, apply
from mh_batch.jobs.status import FINISHED
from mh_batch.store.connection import immediate

from .history import parse_of, read_history, request_of
from .recording import add_parse

_PAGE = 500
_STATUSES = ", ".join(f"'{status.value}'" for status in sorted(FINISHED))
_JOBS = f"""
SELECT j.id, j.request, j.model, m.adapter, b.settings
FROM jobs AS j
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN batch_models AS m ON m.batch_id = j.batch_id AND m.model = j.model
WHERE j.batch_id = ? AND j.id > ? AND j.status IN ({_STATUSES})
    AND EXISTS (SELECT 1 FROM attempts AS a WHERE a.job_id = j.id)
ORDER BY j.id
LIMIT {_PAGE}
"""
_IS_FINISHED = f"SELECT 1 FROM jobs WHERE id = ? AND status IN ({_STATUSES})"
_CURRENT = """
SELECT a.id, p.id AS parse_id, p.parser_version, p.rung, p.well_formed, p.problems,
    t.accepted_attempt_id IS NOT NULL AS kept,
    EXISTS (
        SELECT 1 FROM attempts AS later
        WHERE later.job_id = a.job_id AND later.choice = a.choice
            AND (later.turn, later.step) > (a.turn, a.step)
    ) OR (t.complete = 1 AND j.status <> 'done') AS seen
FROM attempts AS a
JOIN jobs AS j ON j.id = a.job_id
JOIN parses AS p ON p.attempt_id = a.id AND p.current = 1
LEFT JOIN turns AS t ON t.accepted_attempt_id = a.id
WHERE a.job_id = ? AND a.choice = ? AND a.turn = ? AND a.step = ? AND a.attempt = ?
"""
_STOP_REASON = "SELECT stop_reason FROM attempts WHERE id = ?"
_RETIRE = "UPDATE parses SET current = 0 WHERE attempt_id = ? AND current = 1"
_ANSWER = """
UPDATE turns SET final = ?, analysis = ?, finish_reason = ?, parsed = ?
WHERE accepted_attempt_id = ?
"""


class ReparseJob(msgspec.Struct, frozen=True):
    """A finished job as a parser needs it.

    `adapter` is `None` if the version that answered it did not store it, `form` for free text.
    `prompting` is what shaped its prompts.
    """

    id: int
    model: str
    adapter: str | None
    tools: tuple[Tool, ...]
    attempts: tuple[Attempt, ...]
    form: Form | None = None
    prompting: Prompting = Prompting()


class ReparseCounts(msgspec.Struct, frozen=True):
    """What a reparse changed, in numbers of attempts.

    Of the `different` ones, `mended` became well formed and `broken` are so no longer. `answers`
    are kept attempts whose turn took over the new parse, `seen` those whose turn did not, because
    a later turn had seen the old one.
    """

    attempts: int = 0
    added: int = 0
    different: int = 0
    mended: int = 0
    broken: int = 0
    answers: int = 0
    seen: int = 0

    def __add__(self, other: "ReparseCounts") -> "ReparseCounts":
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return ReparseCounts(*(mine + theirs for mine, theirs in pairs))


def reparse_jobs(db: Database, batch_id: int) -> Iterator[ReparseJob]:
    """Yield the finished jobs of a batch that have attempts, with flat memory."""
    last = 0
    while rows := db.conn.execute(_JOBS, (batch_id, last)).fetchall():
        for row in rows:
            request = request_of(row["request"])
            attempts = read_history(db, row["id"]).attempts
            about = (row["id"], row["model"], row["adapter"])
            settings = _settings(row["settings"], request)
            shaped = (settings.output.form, settings.prompting)
            yield ReparseJob(*about, request.tools, attempts, *shaped)
        last = rows[-1]["id"]


def _settings(batch: str, request: Request) -> Settings:
    """Return a job's settings; the built-in ones where its own cannot be read any more."""
    try:
        return apply(msgspec.json.decode(batch, type=Settings), request.settings)
    except (msgspec.DecodeError, SettingsError):
        return Settings()


def add_parses(
    db: Database, job_id: int, parses: Mapping[AttemptKey, Parse], form: Form | None = None
) -> ReparseCounts:
    """Add new parses of a job's attempts, all of them or none; return what they changed.

    `form` is that of the answers. A parse equal to the current one is not added. A job that was
    queued again meanwhile is left as it is.
    """
    total = ReparseCounts()
    with immediate(db):
        if db.conn.execute(_IS_FINISHED, (job_id,)).fetchone() is None:
            return total
        for key, parse in parses.items():
            total += _add_parse(db, job_id, key, parse, form)
    return total


def _add_parse(
    db: Database, job_id: int, key: AttemptKey, parse: Parse, form: Form | None
) -> ReparseCounts:
    row = db.conn.execute(_CURRENT, (job_id, *msgspec.structs.astuple(key))).fetchone()
    before = parse_of(db, row)
    if before == parse:
        return ReparseCounts(attempts=1)
    db.conn.execute(_RETIRE, (row["id"],))
    add_parse(db, row["id"], parse)
    if msgspec.structs.replace(before, parser_version=parse.parser_version) == parse:
        return ReparseCounts(attempts=1, added=1)
    worse = before.well_formed and not parse.well_formed
    answer = bool(row["kept"]) and not row["seen"] and not worse
    if answer:
        _update_turn(db, row["id"], parse, form)
    return ReparseCounts(
        attempts=1,
        added=1,
        different=1,
        mended=parse.well_formed and not before.well_formed,
        broken=worse,
        answers=answer,
        seen=bool(row["kept"]) and bool(row["seen"]),
    )


def _update_turn(db: Database, attempt_id: int, parse: Parse, form: Form | None) -> None:
    """Give the turn that keeps an attempt the texts of its new parse."""
    stop = db.conn.execute(_STOP_REASON, (attempt_id,)).fetchone()[0]
    reason = finish_reason(StopReason(stop), parse)
    texts = (parse.text("final"), parse.text("analysis"))
    values = (*texts, reason.value, parse.parsed(form), attempt_id)
    db.conn.execute(_ANSWER, values)
