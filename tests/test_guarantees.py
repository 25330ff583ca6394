"""What is guaranteed is tested: each sentence names its test."""

import re
from pathlib import Path

import pytest

from helpers.documents import section

TESTS = Path(__file__).parent
GUARANTEED = section("docs/guarantees.md", "What is guaranteed")


def sentences() -> list[str]:
    """The sentences of the section's lists."""
    items = re.findall(r"^- (.+(?:\n  .+)*)", GUARANTEED, re.MULTILINE)
    texts = [" ".join(item.split()) for item in items]
    return [part.strip(" .") for text in texts for part in re.split(r"(?<=\.)\s", text)]


def slug(sentence: str) -> str:
    """The name that a test of a sentence has."""
    words = re.sub(r"['\N{RIGHT SINGLE QUOTATION MARK}`]", "", sentence.lower())
    return "test_" + re.sub(r"[^a-z0-9]+", "_", words).strip("_")


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names of all tests."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        found.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.M))
    return found


@pytest.mark.parametrize("sentence", sentences())
def test_a_sentence_of_the_guarantees_has_a_test_of_its_name(
    sentence: str, names: set[str]
) -> None:
    assert slug(sentence) in names


def test_there_are_guarantees() -> None:
    assert len(sentences()) > 15
