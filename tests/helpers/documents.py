"""The README and `docs/`, and how tests read them."""

import re
from typing import NamedTuple

from .paths import ROOT

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
"""The pages whose commands are run and whose links are followed, the README first."""

TEXTS = {name: (ROOT / name).read_text("utf-8") for name in PAGES}


class Step(NamedTuple):
    """A command as a page has it, and what is printed below it."""

    command: str
    shown: str


def section(page: str, heading: str) -> str:
    """Return the text under a heading of the second level."""
    found = TEXTS[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, f"{page} has no section {heading!r}"
    return found


def steps(text: str) -> list[Step]:
    """Return the commands of the console blocks in a text, in order."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append(Step(command, shown))
    return found


def first_cells(text: str) -> list[str]:
    """Return the names in the first column of the tables in a text."""
    return re.findall(r"^\| `(.+?)` \|", text, flags=re.MULTILINE)


PROBLEMS = frozenset(first_cells(section("docs/formats.md", "Problems of an answer")))
"""The codes of `Parse.problems`."""
