"""The life of a job."""

from itertools import product

import pytest

from mh_batch.jobs.status import (
    FINISHED,
    MOVES,
    NOT_WELL,
    OPEN,
    RETRYABLE,
    UNSUCCESSFUL,
    IllegalMove,
    Status,
    check_move,
)


@pytest.mark.parametrize(("current", "target"), list(product(Status, Status)))
def test_a_move_is_allowed_exactly_if_the_table_has_it(current: Status, target: Status) -> None:
    if target in MOVES[current]:
        assert check_move(current, target) is target
    else:
        with pytest.raises(IllegalMove, match=f"{current} cannot become {target}"):
            check_move(current, target)


def test_every_status_is_either_open_or_finished() -> None:
    assert frozenset(Status) == OPEN | FINISHED
    assert not OPEN & FINISHED


def test_only_a_job_that_did_not_succeed_can_be_retried() -> None:
    assert RETRYABLE == UNSUCCESSFUL
    assert NOT_WELL | {Status.CANCELLED} == UNSUCCESSFUL
    assert Status.CANCELLED not in NOT_WELL
    assert Status.DONE not in RETRYABLE
