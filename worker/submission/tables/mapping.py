"""Makes the line of a row: with a template, or with columns by other names."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from mh_batch.jobs.foreign.name import ForeignName, kind_of
from mh_batch.jobs.foreign.names import FOREIGN
from mh_batch.jobs.jsonl.fields import ALPACA_KEYS, LINE_KEYS, SHAPES, SYSTEM_KEYS, BadField
from mh_batch.jobs.jsonl.ids import ID_KEYS
from mh_batch.jobs.jsonl.nested import holds_settings

from .options import METADATA, RowOptions

TEXT_KEYS = frozenset(
    {"prompt", *SYSTEM_KEYS, "custom_id", "model", "adapter", "instruction", "input"}
)
CONVERSATIONS = frozenset(SHAPES) | {"instruction"}
# a template may use them in the prompt, and they still name the line
_KEPT = frozenset({"custom_id", *ID_KEYS})
# what a line says of a key that is none, behind its name
_NO_KEY = (": unknown; did you mean", ": not supported", ": the worker's")
_decode = msgspec.json.Decoder().decode

Fields = dict[str, Any]


class Made(NamedTuple):
    """The JSON of a line, and metadata by names that would mean something else in a line."""

    line: bytes
    extra: Fields


class LineMaker:
    """Makes lines of rows; of a table's texts, those that cannot be text are read as JSON.

    A column that is neither renamed nor used in the template keeps its name: as a key of the line,
    or as metadata.
    """

    def __init__(self, options: RowOptions, *, table: bool) -> None:
        self._template = options.made()
        self._whole = options.line_template
        self._table = table
        self._renamed = [(key, column) for key, column in options.renamed if key != METADATA]
        self._metadata = {column for key, column in options.renamed if key == METADATA}
        used = {column for _, column in self._renamed}
        if self._template is not None:
            used |= self._template.names - _KEPT
        self._used = used - self._metadata
        targets = {key for key, _ in self._renamed}
        if self._template is not None:
            targets |= CONVERSATIONS if self._whole else {"prompt"}
        # the conversation is what was asked for: columns of its other shapes are metadata
        self._replaced = targets | (CONVERSATIONS if targets & CONVERSATIONS else frozenset())
        if targets & CONVERSATIONS == {"turns"} or "messages" in targets:
            self._replaced -= {"messages", "turns"} - targets

    def missing(self, columns: tuple[str, ...]) -> list[str]:
        """Return the columns that are to be renamed and are not there."""
        wanted = [column for _, column in self._renamed] + sorted(self._metadata)
        return [column for column in wanted if column not in columns]

    def makes_conversation(self, columns: tuple[str, ...]) -> bool:
        """Whether a row with these columns can be a line."""
        named = {key for key, _ in self._renamed} | (set(columns) - self._used)
        return self._template is not None or bool(named & CONVERSATIONS)

    def make(self, fields: Mapping[str, Any]) -> Made:
        """Return the line of a row; raises `BadField` naming the column."""
        line: Fields = {}
        extra: Fields = {}
        known = ALPACA_KEYS if self._is_alpaca(fields) else LINE_KEYS
        for column, value in fields.items():
            if column in self._used:
                continue
            if column in self._metadata or column in self._replaced:
                extra[column] = value
            elif not self._table:
                line[column] = value
            elif column in known:
                if not _is_empty(value) or column in SHAPES:
                    line[column] = self._cell(column, value)
            elif column not in FOREIGN or FOREIGN[column].kept:
                line[column] = value
            elif _is_parameter(FOREIGN[column], cell := self._cell(column, value)):
                line[column] = cell
            else:
                extra[column] = value
        for key, column in self._renamed:
            self._rename(line, key, column, fields)
        if self._template is not None:
            made = self._rendered(fields)
            extra |= {key: line.pop(key) for key in made if key in line}
            line |= made
        return Made(_encode(line), extra)

    def _is_alpaca(self, fields: Mapping[str, Any]) -> bool:
        own = "instruction" in fields and "instruction" not in self._replaced | self._used
        return own or any(key == "instruction" for key, _ in self._renamed)

    def _rename(self, line: Fields, key: str, column: str, fields: Mapping[str, Any]) -> None:
        if column not in fields:
            raise BadField(f"{column}: no such column; there are {', '.join(fields)}")
        value = fields[column]
        if _is_empty(value):
            if key in CONVERSATIONS:
                raise BadField(f"{column}: empty")
            return
        if key == "custom_id" and not self._table:
            value = _plain(value)
        line[key] = self._cell(key, value)

    def _cell(self, key: str, value: Any) -> Any:
        """Return the value of a known key: an id as a text, and JSON where it is no text."""
        if key == "custom_id" and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not self._table or key in TEXT_KEYS or not isinstance(value, str):
            return value
        try:
            return _decode(value)
        except msgspec.DecodeError:
            return value

    def _rendered(self, fields: Mapping[str, Any]) -> Fields:
        assert self._template is not None, "there is a template"
        values = fields if self._table else {name: _plain(v) for name, v in fields.items()}
        text = self._template.render(values)
        if not self._whole:
            if not text.strip():
                raise BadField(f"{self._template.origin}: makes an empty prompt")
            return {"prompt": text}
        try:
            made = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except msgspec.DecodeError as error:
            raise BadField(f"{self._template.origin}: makes no JSON object: {error}") from None
        return dict(made)

    def named(self, reason: str) -> str:
        """Return why a line is refused, in words of the columns.

        It names the column of a renamed key, and what keeps one that may not be a key.
        """
        for key, column in self._renamed:
            if key != column and re.match(rf"{key}(?=[:.\[])", reason):
                return column + reason.removeprefix(key)
        name = reason.partition(":")[0]
        if reason.startswith(_NO_KEY, len(name)) and name not in LINE_KEYS:
            return f"{reason}; --map {METADATA}={name} keeps it as metadata"
        return reason


def unknown_shape(source: str, columns: tuple[str, ...]) -> str:
    """Return what is wrong with a table that has no column of a conversation, and the cure."""
    return (
        f"{source}: no column is a conversation, such as prompt; there are {', '.join(columns)}: "
        f"{map_cure(columns)}"
    )


LIKELY = (
    *("question", "text", "query", "input", "content", "problem", "task", "sentence"),
    *("document", "article", "goal", "description", "title", "context"),
)
"""Names that data sets often give to what is to be asked, the likeliest first."""


def map_cure(keys: tuple[str, ...]) -> str:
    """Return the option that makes a conversation of lines with these keys."""
    folded = {key.lower(): key for key in reversed(keys)}
    likely = next((folded[name] for name in LIKELY if name in folded), None)
    others = [key for key in keys if key not in ALPACA_KEYS and key not in ID_KEYS]
    return f"--map prompt={likely or next(iter(others), 'KEY')} says which one to ask"


def merged(metadata: msgspec.Raw | None, extra: Fields) -> msgspec.Raw | None:
    """Return the metadata of a line with more of it."""
    if not extra:
        return metadata
    known = {} if metadata is None else msgspec.json.decode(metadata, type=dict[str, msgspec.Raw])
    return msgspec.Raw(_encode({**known, **extra}))


def _is_parameter(foreign: ForeignName, cell: Any) -> bool:
    """Whether a cell is another tool's parameter, and not data in a column of the same name.

    It is data if it is a text, of a kind that the parameter does not have, or asks for nothing.
    """
    raw = _encode({foreign.name: cell}).partition(b":")[2][:-1]
    if foreign.nested:
        return holds_settings(foreign.name, msgspec.Raw(raw))
    is_data = kind_of(raw) == "text" or not foreign.is_meant(raw)
    return not is_data and not foreign.is_neutral(raw)


def _is_empty(value: Any) -> bool:
    if isinstance(value, msgspec.Raw):
        return bytes(value) in (b"null", b'""')
    return value is None or value == ""


def _plain(value: Any) -> Any:
    return _decode(value) if isinstance(value, msgspec.Raw) else value


def _encode(fields: Fields) -> bytes:
    try:
        return msgspec.json.encode(fields, enc_hook=str)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError) as error:
        raise BadField(f"{_culprit(fields)}: {error}") from None


def _culprit(fields: Fields) -> str:
    for name, value in fields.items():
        try:
            msgspec.json.encode({name: value}, enc_hook=str)
        except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
            return name
    return "row"
