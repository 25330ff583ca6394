"""Batches are deleted while a worker drains others."""

from contextlib import closing

import pytest

from helpers.drained import ONE, TWO, Site
from mh_batch.jobs.errors import InputError
from mh_batch.store.changes.removal import delete
from mh_batch.store.connection import open_store
from mh_batch.store.lookup import find_batch

pytestmark = pytest.mark.anyio


async def test_a_batch_is_deleted_beside_a_drain_that_never_sees_its_jobs(site: Site) -> None:
    site.submit(TWO, ONE)
    site.submit(ONE, ONE)
    refused = []

    def delete_both(_: int) -> None:
        site.notes.on_tokens = lambda _: None
        with closing(open_store(site.db_path)) as store:
            delete(store, find_batch(store, "2"))
            with pytest.raises(InputError) as error:
                delete(store, find_batch(store, "1"))
            refused.append(str(error.value))

    site.notes.on_tokens = delete_both
    outcome = await site.drain()
    assert outcome.exit_code == 0
    assert "are running; `mh-batch cancel 1` first" in refused[0]
    assert site.rows("select batch_id, status from jobs") == [(1, "done"), (1, "done")]
    assert {name for name, _ in site.notes.began} == {"line-1", "line-2"}
    assert site.rows("select count(*) from attempts") == [(3,)]
    assert site.sound()
