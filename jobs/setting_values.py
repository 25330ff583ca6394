"""One value of a setting: read from a text, and checked against its type and its range."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from .errors import SettingsError

_SHOWN = 200

USEFUL: dict[str, tuple[int, str]] = {
    # longer than the context of gpt-oss
    "repetition_window": (1 << 17, ""),
    # on the CPU attention takes memory by its square, and longer chunks are no faster
    "prefill_step": (8192, ""),
    # as many as the largest vocabularies have
    "logit_bias": (1 << 18, " tokens"),
    "chat_template_kwargs": (64, " variables"),
}
"""The highest useful value of settings that take memory, and its unit.

It limits new values, not stored ones: an earlier version accepted more.
"""

RESERVED = frozenset(
    {
        *("messages", "conversation", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "return_dict", "return_tensors"),
        *("return_assistant_tokens_mask", "tokenizer_kwargs", "padding", "truncation"),
        *("max_length", "add_special_tokens", "bos_token", "eos_token", "raise_exception"),
    }
)
"""What a chat template gets from its tokeniser and from what renders it, and nobody may change."""


def replaced(struct: Any, name: str, value: Any, text: bool) -> Any:
    """Return `struct` with one field changed, checked against the field's type and range.

    `text` says that the value came from a command line, where `48` is a string. Raises
    `SettingsError` naming the field, the value and the range.
    """
    if text:
        value = _from_text(value)
    try:
        checked = msgspec.convert({name: value}, type(struct), strict=not text)
    except msgspec.ValidationError as error:
        choices = () if isinstance(value, Mapping) else _choices(type(struct), name)
        reason = str(error).removesuffix(f" - at `$.{name}`")
        reason = f"one of {', '.join(choices)}" if choices else reason
        raise SettingsError(f"{name}: {reason}, got {_cut(repr(value))}") from None
    _check_size(name, getattr(checked, name))
    if name == "chat_template_kwargs" and (
        taken := sorted(RESERVED & getattr(checked, name).keys())
    ):
        raise SettingsError(f"{name}: {taken[0]} is set by what renders a prompt")
    return msgspec.structs.replace(struct, **{name: getattr(checked, name)})


def _check_size(name: str, value: Any) -> None:
    """Refuse values of a setting above its highest useful one."""
    if name in USEFUL:
        most, unit = USEFUL[name]
        size = len(value) if isinstance(value, Mapping) else value
        if size > most:
            raise SettingsError(f"{name}: at most {most:,}{unit}, got {size:,}")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _choices(group: type[msgspec.Struct], name: str) -> tuple[str, ...]:
    """Return the words that a setting may have, none if it takes other values."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(group)}
    members = (kinds[name], *get_args(kinds[name]))
    return next((get_args(kind) for kind in members if get_origin(kind) is Literal), ())


def _from_text(value: Any) -> Any:
    """Return what a string of a command line stands for: null, JSON, or the string itself."""
    if value in ("none", "null"):
        return None
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value
