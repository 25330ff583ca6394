"""No test can hang for ever: whatever waits for a process or a thread has a limit of its own.

pytest-timeout ends a test that hangs all the same, but cannot say what it waited for.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIMITED = frozenset({"communicate", "run", "check_output", "urlopen"})
"""What must say `timeout`."""

EMPTY_IS_UNLIMITED = frozenset({"join", "get", "wait"})
"""A thread's `join()`, a queue's `get()`; those of texts and mappings have arguments anyway."""


def unlimited(source: str) -> Iterator[int]:
    """Yield the lines of calls that may wait for ever."""
    tree = ast.parse(source)
    # what is awaited ends with the scope around it
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in awaited:
            continue
        if not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        given = {keyword.arg for keyword in node.keywords}
        if name in EMPTY_IS_UNLIMITED:
            waits = not node.args and not given
        else:
            waits = name in LIMITED and "timeout" not in given
            waits = waits and not (name == "run" and owner != "subprocess")
        if waits:
            yield node.lineno


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda p: p.stem)
def test_whatever_waits_for_a_process_or_a_thread_has_a_limit(path: Path) -> None:
    assert [f"{path.name}:{line}" for line in unlimited(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("call", "waits"),
    [
        ("process.communicate()", True),
        ("process.communicate(b'go', timeout=5)", False),
        ("subprocess.run(['ls'], check=True)", True),
        ("anyio.run(main)", False),
        ("thread.join()", True),
        ("', '.join(names)", False),
        ("queue.get()", True),
        ("table.get('a')", False),
    ],
)
def test_a_call_without_a_limit_is_found(call: str, waits: bool) -> None:
    assert list(unlimited(call)) == ([1] if waits else [])
