"""Jinja templates that make a prompt, or a whole line, of a row."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mh_batch.jobs.errors import InputError
from mh_batch.jobs.jsonl.fields import BadField

if TYPE_CHECKING:
    from jinja2 import Environment

ROW = "row"
"""The name by which a template reaches the whole row, also columns whose names have spaces."""

_UNDEFINED = " is undefined"
_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Template:
    """A sandboxed template; `names` are the columns that it uses.

    A column that a row does not have, and one without a value (null), is an error that names it.
    Lists and objects are printed as JSON. Raises `InputError` for text that is no template, and
    for one that uses no column; `origin` says where the text is from.
    """

    def __init__(self, text: str, origin: str) -> None:
        import jinja2
        from jinja2 import meta

        self.origin = origin
        environment = _environment()
        try:
            tree = environment.parse(text)
            self.names = frozenset(meta.find_undeclared_variables(tree))
            self._template = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"{origin}: line {error.lineno}: {error.message}") from None
        if not self.names:
            raise InputError(f"{origin}: uses no column; write it in double braces: {{{{text}}}}")

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text for the values of a row; raises `BadField`."""
        from jinja2 import TemplateError

        try:
            return self._template.render({ROW: values, **values})
        except _NullValue:
            nulls = [n for n in sorted(self.names) if n in values and values[n] is None]
            raise BadField(
                f"{', '.join(nulls) or self.origin}: null, where text is to be"
            ) from None
        except TemplateError as error:
            raise BadField(_reason(str(error), values, self.origin)) from None
        except _FAULTS as error:
            raise BadField(f"{self.origin}: {type(error).__name__}: {error}") from None


class _NullValue(Exception):
    """A null is to be printed."""


def _environment() -> "Environment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, finalize=_printed, trim_blocks=True, lstrip_blocks=True
    )


def _printed(value: Any) -> Any:
    if value is None:
        raise _NullValue
    if isinstance(value, list | dict | tuple):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return value


def _reason(message: str, values: Mapping[str, Any], origin: str) -> str:
    name = message.removesuffix(_UNDEFINED).strip("'")
    if message.endswith(_UNDEFINED) and name not in values:
        return f"{name}: no such column; there are {', '.join(values)}"
    return f"{origin}: {message}"
