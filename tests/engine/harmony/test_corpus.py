"""Completions as gpt-oss mangles them, one file each in `corpus/`, and how each must be read."""

import tomllib
from pathlib import Path

import msgspec
import pytest

from helpers.paths import CORPORA
from helpers.spelled import encode
from mh_batch.engine.completion_reader import Completion, read
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.engine.parsing.judge import PARSER_VERSION
from mh_batch.jobs.conversation import FunctionSpec, Tool
from mh_batch.jobs.generation import Channel, FinishReason, ParserTier, StopReason, finish_reason

FILES = sorted((CORPORA / "completions").glob("*.toml"))
Spelled = str | tuple[str | tuple[int, ...], ...]
"""Tokens as text with control tokens spelled out, and as ids where the text would not say them."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must come out; calls are the channels with a recipient."""

    rung: ParserTier
    problems: frozenset[str]
    finish_reason: FinishReason
    channels: tuple[Channel, ...]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: a completion, what the request had to do with it, and how it reads."""

    tokens: Spelled
    stop_reason: StopReason
    expected: Expected
    response_prefill: Spelled = ""
    stops: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def attempt(self) -> Completion:
        return Completion(
            ids(self.tokens),
            self.stop_reason,
            ids(self.response_prefill),
            self.stops,
            tuple(Tool(FunctionSpec(name)) for name in self.tools),
        )


def ids(spelled: Spelled) -> tuple[int, ...]:
    parts = (spelled,) if isinstance(spelled, str) else spelled
    return tuple(
        token for part in parts for token in (encode(part) if isinstance(part, str) else part)
    )


def case(path: Path) -> Case:
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Case)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_completion_of_the_corpus_is_read_as_its_file_says(path: Path) -> None:
    wanted = case(path)
    found = read(HarmonyAdapter(), wanted.attempt)
    assert found.channels == wanted.expected.channels
    assert set(found.problems) == wanted.expected.problems
    assert (found.tier, found.well_formed) == (wanted.expected.rung, not found.problems)
    assert finish_reason(wanted.stop_reason, found) == wanted.expected.finish_reason
    assert found.parser_version == PARSER_VERSION


def test_the_corpus_is_there() -> None:
    assert len(FILES) > 70


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_final_is_forced_exactly_where_the_parse_says_that_the_analysis_has_not_ended(
    path: Path,
) -> None:
    wanted = case(path)
    whole = (*wanted.attempt.response_prefill, *wanted.attempt.tokens)
    unended = "analysis_not_ended" in wanted.expected.problems
    if wanted.stop_reason is not StopReason.CANCELLED:
        assert bool(HarmonyAdapter().forced_final(whole)) is unended
