"""How fast a model was so far, to estimate how long a batch will take."""

from statistics import median

import msgspec
from sqlite_utils import Database

from mh_batch.store.sql import ATTEMPT_SPEED

SAMPLE = 500
"""How many of a model's latest attempts count."""

HORIZON = 20_000
"""Among how many of the latest attempts of all models they are searched."""

# A model is looked for among the latest attempts of all models, so that one that was never used
# costs no walk over years of attempts.
_LATEST = f"""
WITH latest AS (
    SELECT id, job_id, verdict FROM attempts ORDER BY id DESC LIMIT :horizon
)
SELECT
    l.verdict, m.parallel, m.completion_tokens, {ATTEMPT_SPEED} AS tokens_per_second,
    m.prefill_tokens_per_second
FROM latest AS l
JOIN jobs AS j ON j.id = l.job_id
JOIN timings AS m ON m.attempt_id = l.id
WHERE j.model = :model
ORDER BY l.id DESC
LIMIT :sample
"""


class ThroughputEstimate(msgspec.Struct, frozen=True):
    """Medians over `attempts` attempts of one model: tokens a second, tokens an attempt.

    `attempts_per_answer` is a mean over the answers that were kept. All attempts decoded in
    `parallel` slots, and the speed is that of all slots together.
    """

    attempts: int
    tokens_per_second: float
    prefill_tokens_per_second: float
    completion_tokens: float
    attempts_per_answer: float
    parallel: int = 1


def throughput_estimate(db: Database, model: str) -> ThroughputEstimate | None:
    """Return how fast a model was in this database; `None` after too few attempts to tell.

    Among its latest attempts only those with the last number of slots count.
    """
    values = {"model": model, "sample": SAMPLE, "horizon": HORIZON}
    found = db.conn.execute(_LATEST, values).fetchall()
    rows = [row for row in found if row["parallel"] == found[0]["parallel"]]
    decode = [row["tokens_per_second"] for row in rows if row["tokens_per_second"]]
    prefill = [row["prefill_tokens_per_second"] for row in rows if row["prefill_tokens_per_second"]]
    kept = sum(row["verdict"] != "retry" for row in rows)
    if not decode or not prefill or not kept:
        return None
    return ThroughputEstimate(
        attempts=len(rows),
        tokens_per_second=median(decode),
        prefill_tokens_per_second=median(prefill),
        completion_tokens=median(row["completion_tokens"] for row in rows),
        attempts_per_answer=len(rows) / kept,
        parallel=rows[0]["parallel"],
    )
