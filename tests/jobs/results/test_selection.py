"""Which finished jobs are wanted."""

from typing import Any

import msgspec
import pytest

from mh_batch.jobs.conversation import Message, Request
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.generation import FinishReason, Parse, ParserTier
from mh_batch.jobs.record import AttemptKey, FinishedJob, FinishedTurn
from mh_batch.jobs.results.formats import FORMATS
from mh_batch.jobs.results.selection import Selection, choose
from mh_batch.jobs.status import Status

PARSE = Parse(1, ParserTier.STRICT, True, (), ())


def turn(
    choice: int, number: int, finish_reason: str = "stop", *, rescued: bool = False
) -> FinishedTurn:
    key = AttemptKey(choice, number)
    return FinishedTurn(key, "q", "a", None, finish_reason, 1, rescued, 1, 1, PARSE)


def job(metadata: bytes | None = None, *turns: FinishedTurn) -> FinishedJob:
    return FinishedJob(
        id=1,
        batch_id=1,
        batch="b",
        position=1,
        custom_id="c",
        status=Status.DONE,
        model="demo",
        request=Request((Message("user", "q"),)),
        metadata=None if metadata is None else msgspec.Raw(metadata),
        error_code=None,
        error=None,
        finished_at=None,
        turns=turns,
    )


METADATA = (
    b'{"topic": "sums", "level": 1.50, "big": 12345678901234567890123, "ok": true, "no": null,'
    b' "deep": {"er": {"x": "y"}, "list": ["a", {"b": "c"}]}, "dot.ted": "z", "dot": {"ted": "w"},'
    b' "umlaut": "\\u00e4"}'
)


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("topic=sums", True),
        ("topic=sum", False),
        ("level=1.50", True),
        ("level=1.5", False),
        ("big=12345678901234567890123", True),
        ("ok=true", True),
        ("ok=True", False),
        ("no=null", True),
        ("deep.er.x=y", True),
        ("deep.er=y", False),
        ("deep.list.0=a", True),
        ("deep.list.1.b=c", True),
        ("deep.list.2=a", False),
        ("dot.ted=z", True),
        ("dot.ted=w", True),
        ("umlaut=ä", True),
        ("missing=", False),
        ("topic.x=sums", False),
    ],
)
def test_metadata_is_compared_as_text_at_a_path(where: str, wanted: bool) -> None:
    assert Selection.parse(None, None, [where]).matches(job(METADATA)) is wanted


def test_all_of_where_has_to_agree_and_no_metadata_agrees_with_nothing() -> None:
    both = Selection.parse(None, None, ["topic=sums", "ok=true"])
    assert both.matches(job(METADATA))
    assert not Selection.parse(None, None, ["topic=sums", "ok=false"]).matches(job(METADATA))
    assert not both.matches(job())
    assert Selection().matches(job())


def test_a_value_may_hold_an_equals_sign() -> None:
    assert Selection.parse(None, None, ["k=a=b"]).matches(job(b'{"k": "a=b"}'))


def test_a_choice_goes_by_how_its_last_answer_ended() -> None:
    turns = (
        turn(0, 1, "length"),
        turn(0, 2, "stop"),
        turn(1, 1, "stop"),
        turn(1, 2, "length"),
    )
    stopped = Selection.parse(None, "stop", [])
    assert [t.key.choice for t in stopped.answers(job(None, *turns)).turns] == [0, 0]
    either = Selection.parse(None, "stop, length", [])
    assert either.finish_reasons == frozenset({FinishReason.STOP, FinishReason.LENGTH})
    assert either.answers(job(None, *turns)).turns == turns
    assert Selection().answers(job(None, *turns)).turns == turns


def test_a_conversation_is_rescued_by_any_of_its_answers_and_goes_or_stays_as_a_whole() -> None:
    good = (turn(0, 1), turn(0, 2))
    bad = (turn(1, 1, rescued=True), turn(1, 2))
    mixed, forced, clean, empty = (job(None, *t) for t in ((*good, *bad), bad, good, ()))
    kept = [choose(one, "keep") for one in (mixed, forced, clean, empty)]
    assert kept == [mixed, forced, clean, empty]
    assert [choose(one, "drop") for one in (mixed, forced, clean, empty)] == [
        *(clean, None, clean, empty)
    ]
    assert [choose(one, "only") for one in (mixed, forced, clean, empty)] == [
        *(forced, forced, None, None)
    ]
    assert [one.rescued for one in (mixed, forced, clean, empty)] == [True, True, False, False]


def test_what_becomes_of_rescued_answers_is_the_formats_to_say_unless_it_is_said() -> None:
    assert Selection.parse(None, None, []).rescued is None
    assert Selection.parse(None, None, [], "only").rescued == "only"
    assert {name: form.rescued for name, form in FORMATS.items()} == {
        **dict.fromkeys(("openai", "csv", "parquet", "json"), "keep"),
        **{"messages": "drop", "completion": "drop", "sharegpt": "drop"},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, [], "none"), "--rescued none: must be one of keep, drop, only"),
        (
            ("done,bad", None, []),
            "--status bad: must be one of cancelled, done, failed",
        ),
        (("queued", None, []), "--status queued: must be one of"),
        (
            (None, "stop,eos", []),
            "--finish-reason eos: must be one of cancelled, length, stop, tool_calls",
        ),
        ((None, None, ["topic"]), "--where topic: needs key=value"),
        ((None, None, ["=sums"]), "--where =sums: needs key=value"),
    ],
)
def test_a_filter_that_cannot_be_is_an_error_naming_what_can(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        Selection.parse(*arguments)
    assert str(caught.value).startswith(message)
