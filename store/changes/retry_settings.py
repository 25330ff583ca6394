"""Settings that a retry gives to jobs: checked against each of them, then stored with it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from sqlite_utils import Database

from mh_batch.jobs.answers.forms import check_tool_choice, tool_choice_of
from mh_batch.jobs.conversation import Request
from mh_batch.jobs.errors import InputError, SettingsError
from mh_batch.jobs.jsonl.line_settings import Checks
from mh_batch.jobs.settings import BATCH_ONLY, FORMS, GROUPS, Settings, apply
from mh_batch.jobs.status import Status
from mh_batch.store.clock import now
from mh_batch.store.connection import snapshot
from mh_batch.store.lookup import Target
from mh_batch.store.queue import cancel_retry
from mh_batch.store.queue.freezing import filled_with

FORMED = frozenset({*FORMS, "tool_choice"})
"""Settings that the answers of earlier turns were made under: a job that keeps some keeps these."""

_JOBS = """
SELECT j.id, j.custom_id, j.request, j.status, b.settings, m.defaults,
    EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.complete = 1) AS answered
FROM jobs AS j JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN batch_models AS m ON m.batch_id = j.batch_id AND m.model = j.model
"""
_OF_TARGET = _JOBS + "WHERE j.{target} = ?"
_ONE = _JOBS + "WHERE j.id = ?"
_STORE = "UPDATE jobs SET request = CAST(? AS TEXT) WHERE id = ?"
_RECORD = """
INSERT INTO retry_settings (job_id, round, at, settings, before)
SELECT id, round, ?, CAST(? AS TEXT), CAST(? AS TEXT) FROM jobs WHERE id = ?
"""
_CHANGES = "SELECT round, at, settings, before FROM retry_settings WHERE job_id = ? ORDER BY round"


class RetryChange(msgspec.Struct, frozen=True):
    """The settings that a retry gave to a job, by name, and what they were `before`.

    They hold for the attempts of `round` and after it.
    """

    round: int
    at: str
    settings: dict[str, Any]
    before: dict[str, Any]


def retry_changes(db: Database, job_id: int) -> list[RetryChange]:
    """Return which settings retries gave to a job, in order."""
    decode = msgspec.json.decode
    rows = db.conn.execute(_CHANGES, (job_id,))
    return [RetryChange(r, at, decode(new), decode(old)) for r, at, new, old in rows]


def typed(values: Mapping[str, Any], *, text: bool = False) -> dict[str, Any]:
    """Return settings of a retry by name, each as it is stored; raises `SettingsError`.

    `text` says that they were typed.
    """
    if "seed" in values:
        raise SettingsError("seed: stays that of the batch; each attempt has its own anyway")
    for name in sorted(BATCH_ONLY & values.keys()):
        raise SettingsError(f"{name}: stays that of the batch; set what you want by its own name")
    return _values(apply(Settings(), values, text=text), values)


def retry(
    db: Database,
    targets: Collection[Target],
    statuses: Collection[Status],
    values: Mapping[str, Any],
    checks: Checks,
) -> list[int]:
    """Queue jobs again as `cancel_retry.retry` does, with other settings; return how many of each.

    No job is in two of the `targets`. `values` are those of `typed`; they win over the job's own.
    Raises `InputError` naming a job that cannot have them, or one that is not tried again; then
    nothing was changed. A job that failed only after that check may raise the same: those before it
    are queued then.
    """
    change = _Change(db, values, checks)
    with snapshot(db):
        for target in targets:
            _check(db, target, statuses, change)
    return [cancel_retry.retry(db, target, statuses, change.store) for target in targets]


class _Change:
    """New settings for jobs; of many jobs with the same settings, those are checked once."""

    def __init__(self, db: Database, values: Mapping[str, Any], checks: Checks) -> None:
        self._db = db
        self._values = values
        self._checks = checks
        self._checked: set[bytes] = set()
        self._has_form = any(values.get(name) is not None for name in FORMS)

    def settled(self, row: Any) -> tuple[Request, Settings]:
        """Return the new request of a job, and its settings before; raises `InputError`."""
        try:
            batch = filled_with(
                row["defaults"], msgspec.json.decode(row["settings"], type=Settings)
            )
            request = msgspec.json.decode(row["request"], type=Request)
            before = apply(batch, request.settings)
            self._check_kept(row)
            # of two forms the new one stays
            dropped = FORMS if self._has_form else ()
            own = {k: v for k, v in request.settings.items() if k not in dropped}
            changed = msgspec.structs.replace(request, settings=own | dict(self._values))
            after = apply(batch, changed.settings)
            self._check_output(after)
            if "tool_choice" in self._values:
                names = [tool.function.name for tool in request.tools]
                check_tool_choice(tool_choice_of(after.output.tool_choice), names)
        except (SettingsError, msgspec.DecodeError) as error:
            raise InputError(f"job {row['id']} ({row['custom_id']}): {error}") from None
        return changed, before

    def store(self, job_id: int) -> None:
        """Give a job that was just queued again its settings, and record that."""
        row = self._db.conn.execute(_ONE, (job_id,)).fetchone()
        request, before = self.settled(row)
        encode = msgspec.json.encode
        self._db.conn.execute(_STORE, (encode(request), job_id))
        new = {**dict.fromkeys(self._replaced(before)), **self._values}
        old = _values(before, new)
        self._db.conn.execute(_RECORD, (now(), encode(new), encode(old), job_id))

    def _replaced(self, before: Settings) -> list[str]:
        """Return the names of the forms that a new one takes the place of."""
        forms = _values(before, FORMS if self._has_form else ())
        return [name for name, form in forms.items() if form is not None]

    def _check_kept(self, row: Any) -> None:
        fixed = sorted(FORMED & self._values.keys())
        if fixed and row["answered"]:
            raise SettingsError(f"{fixed[0]}: answers that it keeps were made under another")

    def _check_output(self, settings: Settings) -> None:
        if not {*FORMS, "accept"} & self._values.keys():
            return
        encoded = msgspec.json.encode(settings.output)
        if encoded not in self._checked:
            self._checks.output(settings.output)
            self._checked.add(encoded)


def _check(db: Database, target: Target, statuses: Collection[Status], change: _Change) -> None:
    """Raise `InputError` naming a job that cannot have a change, or one that is not tried again."""
    for row in _rows(db, target):
        if row["status"] in statuses:
            change.settled(row)
        elif target.job_id is not None:
            raise InputError(
                f"{target.label}: is {row['status']}; settings can be changed only of what is "
                f"{' or '.join(sorted(statuses))}"
            )


def _rows(db: Database, target: Target) -> Iterator[Any]:
    column = "id" if target.job_id is not None else "batch_id"
    yield from db.conn.execute(_OF_TARGET.format(target=column), (target.value,))


def _values(settings: Settings, names: Collection[str]) -> dict[str, Any]:
    groups = {name: getattr(settings, GROUPS[name]) for name in names}
    return {name: msgspec.to_builtins(getattr(group, name)) for name, group in groups.items()}
