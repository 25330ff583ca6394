"""The rules of a Lark grammar, as far as it takes to know whether a text of it can end.

The grammar is one that llguidance has compiled: what is no grammar was refused before.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

# as llguidance itself cuts a grammar into tokens
_TOKEN = re.compile(
    r"""
      (?P<skipped>[ \t\r]+ | //[^\n]* | \#[^\n]*)
    | (?P<newline>\n\s*)
    | (?P<text>"(?:\\.|[^"\\])*"i? | /(?:\\.|[^/\\])+/[imslux]* | <[^>\s]*>)
    | (?P<embedded>%(?:json|regex|llguidance)\b)
    | (?P<word>%[a-z]+ | :: | ->)
    | (?P<name>[!?]*_?[A-Za-z][\w-]*)
    | (?P<number>\d+)
    | (?P<other>\.\. | .)
    """,
    re.VERBOSE | re.DOTALL,
)

_START = "start"
_STATEMENTS = ("%ignore", "%import", "%declare")


class _Token(NamedTuple):
    kind: str
    text: str


class LarkRules(NamedTuple):
    """What stands behind the name of each rule and terminal, and the schemas in them.

    `terminals` has the definitions of terminals as they are written. `parametric` is whether rules
    take values, whose conditions are not followed here.
    """

    bodies: dict[str, tuple[_Token, ...]]
    terminals: str
    schemas: tuple[Any, ...]
    parametric: bool


def read_rules(grammar: str) -> LarkRules:
    """Return the rules of a grammar."""
    bodies: dict[str, tuple[_Token, ...]] = {}
    terminals: list[str] = []
    schemas: list[Any] = []
    parametric = False
    for item, source in _items(grammar, schemas):
        texts = [token.text for token in item]
        parametric = parametric or "::" in texts
        if "%import" in texts:
            terminals.append(source)
        name = next((_plain(token.text) for token in item if token.kind == "name"), "")
        if ":" not in texts or texts[0] in _STATEMENTS:
            continue
        bodies[name] = tuple(item[texts.index(":") + 1 :])
        if _is_terminal(name):
            terminals.append(source)
    return LarkRules(bodies, "".join(terminals), tuple(schemas), parametric)


def has_end(rules: LarkRules, empty: Collection[str] = ()) -> bool:
    """Whether a text of the grammar can end; the terminals in `empty` match nothing.

    What has an end is found from the rules that need no other, and from there on those that use
    them.
    """
    if rules.parametric:
        return True
    users = defaultdict[str, list[str]](list)
    for name, body in rules.bodies.items():
        for token in body:
            users[_plain(token.text)].append(name)
    endless = rules.bodies.keys() | set(empty)
    waiting = list(rules.bodies)
    while waiting and _START in endless:
        name = waiting.pop()
        if name in endless and name not in empty and _ends(rules.bodies[name], endless):
            endless.discard(name)
            waiting += users[name]
    return _START not in endless


def doubtful_terminals(rules: LarkRules) -> Iterator[str]:
    """Yield the terminals that might match nothing: those made by `&` and `~`."""
    for name, body in rules.bodies.items():
        if _is_terminal(name) and any(token.text in ("&", "~") for token in body):
            yield name


def _items(grammar: str, schemas: list[Any]) -> Iterator[tuple[list[_Token], str]]:
    """Yield the definitions and statements; the schemas in them go to `schemas`."""
    at, tokens, begun = 0, list[_Token](), 0
    decoder = json.JSONDecoder()
    while at < len(grammar):
        found = _TOKEN.match(grammar, at)
        assert found is not None  # `other` takes any character
        kind = found.lastgroup or ""
        at = found.end()
        if kind == "embedded":
            value, at = decoder.raw_decode(grammar, _behind_space(grammar, at))
            if found[0] == "%json":
                schemas.append(value)
        if kind == "newline" and not grammar.startswith("|", at):
            yield tokens, grammar[begun:at]
            tokens, begun = [], at
        elif kind not in ("skipped", "newline"):
            tokens.append(_Token(kind, found[0]))
    yield tokens, grammar[begun:]


def _behind_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _plain(name: str) -> str:
    return name.lstrip("!?")


def _is_terminal(name: str) -> bool:
    return name.lstrip("_")[:1].isupper()


def _ends(body: Sequence[_Token], endless: Collection[str]) -> bool:
    """Whether a body has a text that ends, if all names but those in `endless` have one."""
    return _Reader(body, endless).alternatives()


class _Reader:
    """Reads a body: each method takes its part and returns whether that can end."""

    def __init__(self, body: Sequence[_Token], endless: Collection[str]) -> None:
        self._body = body
        self._endless = endless
        self._at = 0

    def alternatives(self) -> bool:
        ends = self._sequence()
        while self._take("|"):
            ends = self._sequence() or ends
        return ends

    def _sequence(self) -> bool:
        ends = True
        while self._next() not in ("", "|", ")", "]"):
            if self._take("->"):
                self._at += 1
                continue
            ends = self._expression() and ends
        return ends

    def _expression(self) -> bool:
        ends = self._atom()
        if self._take("?") or self._take("*"):
            return True
        if self._take("~"):
            return self._count() or ends
        if self._take("{"):
            none = self._next() == "," or self._next() == "0"
            while not self._take("}"):
                self._at += 1
            return none or ends
        self._take("+")
        return ends

    def _atom(self) -> bool:
        if self._take("("):
            ends = self.alternatives()
            self._take(")")
            return ends
        if self._take("["):
            self.alternatives()
            self._take("]")
            return True
        token = self._body[self._at]
        self._at += 1
        return token.kind != "name" or _plain(token.text) not in self._endless

    def _count(self) -> bool:
        """Take the counts behind `~`; return whether none is enough."""
        none = self._next() == "0"
        self._at += 1
        if self._take(".."):
            self._at += 1
        return none

    def _next(self) -> str:
        return self._body[self._at].text if self._at < len(self._body) else ""

    def _take(self, text: str) -> bool:
        found = self._next() == text
        self._at += found
        return found
