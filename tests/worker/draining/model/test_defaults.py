"""What a model says of sampling itself is used where nobody set it, and said when it is loaded."""

import json

import pytest

from helpers.drained import ONE, Site

pytestmark = pytest.mark.anyio


async def test_the_models_defaults_are_said_and_used_by_retries_as_well(site: Site) -> None:
    site.submit(ONE, {**ONE, "temperature": 0.5}, top_k=0)
    assert (await site.drain(["malformed"], "cool")).tally.all_well
    said = site.notes.said.getvalue()
    assert "settings that are left to it, by its generation_config.json: temperature 0.25" in said
    assert "of its generation_config.json not used: top_p: odd" in said
    used = [json.loads(str(text)) for (text,) in site.rows("select sampling from attempts")]
    assert [(one["temperature"], one["top_k"]) for one in used] == [
        *((0.25, 0), (0.25, 0), (0.5, 0)),
    ]
    assert site.rows("select defaults from batch_models") == [('{"temperature":0.25}',)]


async def test_of_a_model_without_defaults_nothing_is_said(site: Site) -> None:
    site.submit(ONE)
    await site.drain()
    assert "generation_config" not in site.notes.said.getvalue()
