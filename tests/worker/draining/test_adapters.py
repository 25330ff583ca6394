"""Two adapters over one model are two models: each is loaded, frozen and recorded by its name."""

import re
from pathlib import Path

import pytest

from helpers.adapters import write_adapter
from helpers.command_line import mh_batch, rows
from helpers.drained import Site
from mh_batch.jobs.models.names import join_name
from mh_batch.jobs.status import Status

SHORT = '{"prompt": "What is 2 + 3?", "max_tokens": 3, "max_attempts": 1}\n'


@pytest.mark.anyio
async def test_each_adapter_of_a_model_is_a_model_of_its_own(site: Site) -> None:
    site.submit(
        {"prompt": "a", "model": "demo", "adapter": "one"},
        {"prompt": "b", "model": "demo", "adapter": "two"},
        {"prompt": "c"},
        {"prompt": "d", "model": "demo//one"},
    )
    outcome = await site.drain(model="demo")
    assert outcome.tally.ended == {Status.DONE: 4}
    # the jobs of the loaded model go first: three loads, no more
    loads = site.notes.said.getvalue().count("loading demo")
    assert loads == 3
    names = [("demo//one",), ("demo//two",), ("demo",), ("demo//one",)]
    assert site.rows("select model from jobs order by position") == names
    assert site.rows("select model from batch_models order by 1") == sorted(set(names))


@pytest.mark.anyio
async def test_a_comparison_names_both_models(site: Site) -> None:
    site.submit({"prompt": "a", "model": "demo"})
    site.submit({"prompt": "a", "model": "demo", "adapter": "one"})
    await site.drain(model=None)
    mh_batch(site.folder, "report", "1", "2", "-o", "both.html")
    page = (site.folder / "both.html").read_text()
    assert re.findall(r">(demo\S*) \(", page) == ["demo", "demo//one"]


def test_another_adapter_in_the_same_folder_does_not_go_on_with_the_batch(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", "demo", seed=1)
    (tmp_path / "in.jsonl").write_text(SHORT * 2)
    mh_batch(tmp_path, "submit", "in.jsonl", "--model", "demo", "--adapter", "adapter")
    mh_batch(tmp_path, "work", "--max-jobs", "1", code=1)
    name = join_name("demo", str(folder.resolve()))
    assert rows(tmp_path, "select model from batches union select model from runs") == [(name,)]
    write_adapter(folder, "demo", seed=2)
    refused = mh_batch(tmp_path, "work", code=3)
    assert "bring the first weights back" in refused.stderr
    assert rows(tmp_path, "select count(*) from jobs where status = 'queued'") == [(1,)]
