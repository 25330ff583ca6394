"""Which part of a data set a conversation goes to."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.results.split import Split

USUAL = "train=0.9,valid=0.05,test=0.05"


def test_the_part_of_a_conversation_is_the_same_for_ever() -> None:
    split = Split.parse(USUAL, 1)
    # a change here would move conversations of people's data sets from training to test
    parts = {n: split.part(f"line-{n}") for n in range(1, 60)}
    assert {n: part for n, part in parts.items() if part != "train"} == {
        **{6: "test", 33: "test", 34: "test", 48: "test"},
        **{47: "valid", 59: "valid"},
    }


def test_parts_are_as_large_as_their_shares_and_differ_by_seed() -> None:
    names = [f"line-{n}" for n in range(20_000)]
    one, other = Split.parse(USUAL, 1), Split.parse(USUAL, 2)
    sizes = Counter(map(one.part, names))
    assert sizes["train"] == pytest.approx(18_000, rel=0.02)
    assert sizes["valid"] == pytest.approx(1_000, rel=0.15)
    assert sizes["test"] == pytest.approx(1_000, rel=0.15)
    assert [one.part(n) for n in names] != [other.part(n) for n in names]


@given(st.text(), st.integers())
def test_every_conversation_has_a_part(custom_id: str, seed: int) -> None:
    thirds = Split.parse("a=0.333333,b=0.333333,c=0.333334", seed)
    assert thirds.part(custom_id) in thirds.names
    assert Split.parse("all=1", seed).part(custom_id) == "all"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train=0.9,valid=0.05", "add up to 0.95"),
        ("train=0.9,valid=0.2", "add up to 1.1"),
        ("train=0.5,train=0.5", "train is in it twice"),
        ("train", "is no share"),
        ("train=x,test=1", "'x' is no share"),
        ("train=nan,test=1", "'nan' is no share"),
        ("train=-0.5,test=1.5", "'-0.5' is no share"),
        ("train=0,test=1", "'0' is no share"),
        ("../train=1", "'../train=1' is not name=share"),
        ("", "is not name=share"),
    ],
)
def test_shares_that_cannot_be_are_an_error_that_says_why(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Split.parse(text, 0)
    assert message in str(caught.value)
