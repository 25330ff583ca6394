"""Control-token escaping: only the template's own control tokens become control token ids.

A Hugging Face tokeniser looks for control tokens in the whole rendered string, so a data row that
spells `<|im_end|>` would end its own turn. So texts are escaped before the template is rendered,
and a copy of the tokeniser encodes the result. The copy knows the control tokens by random names.
The template's own get these names before encoding; those in texts keep their spelling, which is
ordinary text to the copy. All else (normaliser, splitting, merges) is the same, so texts that spell
no control token get the ids they always had.
"""

import functools
import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from mh_batch.jobs.errors import JobError

# not special to every tokeniser that has them, but never mere text
_CONTROL = re.compile(r"<\|.+\|>|</?think>", re.DOTALL)
_MARKUP = re.compile(r"[<\[].+[>\]]", re.DOTALL)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class ControlTokenEscaper:
    """Escapes control tokens in texts, for one tokeniser and its template."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        """Take a Hugging Face tokeniser and the source of its chat template.

        Control tokens are those the tokeniser calls special, added ones that look like
        `<|name|>` or open and close reasoning, and other markup that the template writes
        (`<tool_call>`); an added token such as `<table>` or a run of spaces is text with an id
        of its own.
        """
        self._tokenizer = tokenizer
        self._names = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special
            or _CONTROL.fullmatch(token.content)
            or (token.content in template and _MARKUP.fullmatch(token.content))
        ]
        # a token that is the beginning of another must not be found in its place
        longest_first = sorted(self._names, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # random, so that no text can hold a placeholder; it never shows in the ids
        self._random = secrets.token_hex(8)
        self._escaped = re.compile(f"\ue0f0h{self._random}-(\\d+)\ue0f1")

    def escape(self, text: str) -> str:
        """Return `text` with a placeholder for everything in it that spells a control token."""
        return self._spelled.sub(lambda found: self._name("h", found[0]), text)

    def encode(self, rendered: str) -> list[int]:
        """Return the token ids of a template that was rendered with escaped texts.

        Raises `JobError` if a text spells a control token and the tokeniser is of a kind that
        cannot tell it from a real one.
        """
        if not self._escaped.search(rendered):
            return list(self._tokenizer.encode(rendered, add_special_tokens=False))
        structure = self._spelled.sub(lambda found: self._name("c", found[0]), rendered)
        shown = self._escaped.sub(lambda found: self._names[int(found[1])], structure)
        copy, ids = self._copy
        encoded = copy.encode(shown, add_special_tokens=False).ids
        return [ids.get(token, token) for token in encoded]

    def _name(self, kind: str, control_token: str) -> str:
        """Return a name of `control_token` in private use characters that no template writes."""
        return f"\ue0f0{kind}{self._random}-{self._names.index(control_token)}\ue0f1"

    @functools.cached_property
    def _copy(self) -> tuple[Tokenizer, dict[int, int]]:
        """The tokeniser with random names, and the true id of each added token's id in it."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise JobError(
                "a text spells a control token of the model, which this model's tokeniser "
                "cannot encode as text"
            )
        content = json.loads(backend.to_str())
        added = content["added_tokens"]
        content |= {"added_tokens": [], "post_processor": None}
        names = {name: self._name("c", name) for name in self._names}
        _rename(content["model"], names)
        copy = Tokenizer.from_str(json.dumps(content))
        copy.add_tokens(
            [
                AddedToken(names.get(token["content"], token["content"]), **_flags(token))
                for token in added
            ]
        )
        return copy, _true_ids(copy, added, names)


def _flags(token: dict[str, Any]) -> dict[str, bool]:
    return {flag: token[flag] for flag in _FLAGS}


def _true_ids(
    copy: Tokenizer, added: Sequence[dict[str, Any]], names: dict[str, str]
) -> dict[int, int]:
    """Return the original ids: tokens behind a gap in the numbering are numbered anew."""
    found = {copy.token_to_id(names.get(t["content"], t["content"])): t["id"] for t in added}
    return {token: original for token, original in found.items() if token is not None}


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename control tokens in the model's own vocabulary, where some tokenisers have them."""
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    match model.get("vocab"):
        case dict() as vocabulary:
            model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
        case list() as scored:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in scored]
