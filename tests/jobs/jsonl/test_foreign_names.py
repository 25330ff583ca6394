"""What becomes of every name of another tool, in a line and in an OpenAI body."""

import json
from collections import Counter
from typing import Any

import pytest

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.errors import BadLine
from mh_batch.jobs.foreign.name import ForeignName, Kind
from mh_batch.jobs.foreign.names import FOREIGN
from mh_batch.jobs.jsonl.fields import LINE_KEYS
from mh_batch.jobs.jsonl.line_settings import Inherited
from mh_batch.jobs.jsonl.lines import read_line
from mh_batch.jobs.record import JobLine
from mh_batch.jobs.settings import NAMES, Settings

HI = [{"role": "user", "content": "Hi"}]
VALUES: dict[Kind, object] = {
    "text": "abc", "number": 2, "bool": True, "list": [{"a": 1}], "object": {"a": 1}
}  # fmt: skip
OURS: dict[str, object] = {
    "max_tokens": 9, "max_context_tokens": 900, "repetition_penalty": 1.1, "repetition_window": 64,
    "stop": ["END"], "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip
TAKEN = [name for name in FOREIGN.values() if name.becomes in OURS]
REFUSED = [name for name in FOREIGN.values() if name.refused]
KEPT = [name for name in FOREIGN.values() if name.kept]


def ids(name: ForeignName) -> str:
    return name.name


def read(line: object, left_out: Counter[str] | None = None) -> JobLine | BadLine:
    return read_line(1, json.dumps(line).encode(), Inherited(Settings(), left_out=left_out))


def job(line: object, left_out: Counter[str] | None = None) -> JobLine:
    found = read(line, left_out)
    assert isinstance(found, JobLine), found
    return found


def reason(line: object) -> str:
    found = read(line)
    assert isinstance(found, BadLine), found
    return found.reason


def metadata(line: object) -> Any:
    raw = job(line).metadata
    return {} if raw is None else json.loads(bytes(raw))


def meant(name: ForeignName) -> object:
    """A value that the tool's parameter may have and that asks for something."""
    values = [*name.words, *(VALUES[kind] for kind in name.kinds), *VALUES.values(), False]
    fits = (value for value in values if name.is_meant(json.dumps(value).encode()))
    return next(v for v in fits if not name.is_neutral(json.dumps(v).encode()))


def test_every_name_has_one_fate_and_is_none_of_ours() -> None:
    for name in FOREIGN.values():
        fates = [name.becomes is not None, name.nested, name.kept, bool(name.use)]
        assert fates.count(True) == 1, name
        assert name.name not in NAMES
        assert name.becomes is None or name.becomes in LINE_KEYS
        assert not name.refused or name.name not in LINE_KEYS


@pytest.mark.parametrize("name", TAKEN, ids=ids)
def test_a_taken_name_is_ours_in_a_line_a_body_and_an_object_of_settings(name: ForeignName) -> None:
    assert name.becomes is not None
    value = OURS[name.becomes]
    for line in (
        {"prompt": "x", name.name: value},
        {"body": {"messages": HI, name.name: value}},
        {"prompt": "x", "sampling_params": {name.name: value}},
        {"body": {"messages": HI, "options": {name.name: value}}},
    ):
        assert job(line).request.settings == {name.becomes: value}
        assert job(line).metadata is None
    if name.becomes == "max_tokens":
        assert reason({"prompt": "x", name.name: 5, "max_tokens": 6}).startswith(
            ("max_tokens: differs from", f"{name.name}: differs from")
        )
        assert reason({"prompt": "x", name.name: -1}).startswith("max_tokens: ")


@pytest.mark.parametrize("name", REFUSED, ids=ids)
def test_a_refused_name_is_named_with_what_to_use(name: ForeignName) -> None:
    told = f"{name.name}: not supported: {name.use}"
    own = "; give a key of your own another name"
    assert reason({"prompt": "x", name.name: meant(name)}) == told + own
    assert reason({"body": {"messages": HI, name.name: meant(name)}}) == f"body.{told}"
    inner = {"prompt": "x", "sampling_params": {name.name: meant(name)}}
    assert reason(inner) == f"sampling_params.{told}"
    beside = {"body": {"messages": HI}, name.name: meant(name)}
    assert reason(beside) == told + own


@pytest.mark.parametrize("name", REFUSED, ids=ids)
def test_a_value_that_asks_for_nothing_is_taken_as_such(name: ForeignName) -> None:
    for neutral in ("null", *name.neutral):
        for line in (
            {"prompt": "x", name.name: json.loads(neutral)},
            {"body": {"messages": HI, name.name: json.loads(neutral)}},
        ):
            assert (job(line).request.settings, job(line).metadata) == ({}, None)


@pytest.mark.parametrize("name", [name for name in REFUSED if name.kinds], ids=ids)
def test_a_value_of_another_kind_is_a_key_of_the_users_own(name: ForeignName) -> None:
    others = [v for v in VALUES.values() if not name.is_meant(json.dumps(v).encode())]
    assert others
    for value in others:
        assert metadata({"prompt": "x", name.name: value}) == {name.name: value}
        in_body = {"body": {"messages": HI, name.name: value}}
        if json.dumps(value) not in name.neutral:
            assert reason(in_body).startswith(f"body.{name.name}: not supported")


@pytest.mark.parametrize("name", KEPT, ids=ids)
def test_a_name_that_changes_no_answer_is_metadata(name: ForeignName) -> None:
    assert metadata({"prompt": "x", name.name: {"a": 1}}) == {name.name: {"a": 1}}
    assert metadata({"body": {"messages": HI, name.name: "b"}}) == {name.name: "b"}


@pytest.mark.parametrize("name", ["system", "system_prompt"])
def test_a_system_message_may_stand_beside_the_messages(name: str) -> None:
    for line in ({"prompt": "Hi", name: "Be kind."}, {"body": {"messages": HI, name: "Be kind."}}):
        assert job(line).request.messages[0] == Message("system", "Be kind.")
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]
    anthropic = {"body": {"messages": HI, name: parts, "stop_sequences": ["x"], "max_tokens": 5}}
    assert job(anthropic).request.messages[0].content == "Be kind."
    begins = [{"role": "system", "content": "x"}, *HI]
    assert reason({"body": {"messages": begins, name: "y"}}).startswith(
        f"body.{name}: the messages"
    )
    assert job({"prompt": "Hi", name: None}).request.messages == (Message("user", "Hi"),)


def test_two_system_messages_are_refused_unless_they_are_the_same() -> None:
    assert reason({"prompt": "x", "system": "a", "system_prompt": "b"}) == (
        "system_prompt: differs from system"
    )
    assert len(job({"prompt": "x", "system": "a", "system_prompt": "a"}).request.messages) == 2


def test_objects_of_settings_are_read_and_checked_by_their_own_names() -> None:
    line = {"prompt": "x", "sampling_params": {"max_new_tokens": 5, "n": 3, "top_k": 2}, "own": 1}
    assert job(line).request.settings == {"max_tokens": 5, "top_k": 2}
    assert job(line).request.n == 3
    assert metadata(line) == {"own": 1}
    for members, told in (
        ({"top_k": -2}, "options.top_k: Expected `int` >= 0"),
        ({"top_k": 1, "num_odd": 5}, "options.num_odd: unknown; --ignore-unknown"),
        ({"temprature": 1, "top_k": 1}, "options.temprature: unknown; did you mean temperature?"),
    ):
        assert reason({"prompt": "x", "options": members}).startswith(told)
    differs = {"prompt": "x", "temperature": 1.0, "sampling_params": {"temperature": 0.5}}
    assert reason(differs) == "sampling_params.temperature: differs from temperature"
    assert (
        reason({"body": {"messages": HI}, "options": {"top_k": 1}}) == "options: belongs into body"
    )
    assert reason({"prompt": "x", "sampling_params": 3}).startswith("sampling_params: Expected")


@pytest.mark.parametrize("choices", [["a", "b"], {"A": "a", "B": "b"}, "a or b", {}])
def test_options_that_are_the_choices_of_a_question_are_metadata(choices: object) -> None:
    assert metadata({"prompt": "x", "options": choices}) == {"options": choices}


def test_an_unknown_key_of_a_body_is_refused_or_left_out_and_counted() -> None:
    line = {"body": {"messages": HI, "provider": {"order": []}, "transforms": []}, "mine": 1}
    assert reason(line) == "body.provider: unknown; --ignore-unknown leaves such keys out"
    left_out: Counter[str] = Counter()
    for _ in range(2):
        kept = job(line, left_out)
    assert kept.metadata is not None
    assert bytes(kept.metadata) == b'{"mine":1}'
    assert left_out == {"provider": 2, "transforms": 2}
    misspelt = {"body": {"messages": HI, "temprature": 1}}
    assert isinstance(read(misspelt, left_out), BadLine)


def test_defaults_is_a_setting_of_batches_and_a_lines_own_key_is_metadata() -> None:
    assert metadata({"prompt": "x", "defaults": [1], "default": 2}) == {
        "defaults": [1],
        "default": 2,
    }
