"""What a model did so far, in the numbers that tell how long more of it takes."""

from statistics import median

import msgspec
from sqlite_utils import Database

from mh_batch.store.sql import script

SAMPLE = 500
"""How many of a model's latest attempts are looked at."""

HORIZON = 20_000
"""How many of the latest attempts of any model they are looked for in."""


class ThroughputEstimate(msgspec.Struct, frozen=True):
    """Medians over `attempts` attempts of one model: tokens a second, tokens an attempt.

    `attempts_per_answer` is a mean: how often the model was asked for an answer that was kept.
    """

    attempts: int
    tokens_per_second: float
    prefill_tokens_per_second: float
    completion_tokens: float
    attempts_per_answer: float


def throughput_estimate(db: Database, model: str) -> ThroughputEstimate | None:
    """Return what a model did in this database; `None` if it did too little to tell."""
    values = {"model": model, "sample": SAMPLE, "horizon": HORIZON}
    rows = db.conn.execute(script("reports/estimate.sql"), values).fetchall()
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
    )
