"""How the rows of a file become lines: the options of `submit` that are about its content."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec import Meta

from mh_batch.jobs.did_you_mean import nearest
from mh_batch.jobs.errors import InputError
from mh_batch.jobs.jsonl.fields import ALPACA_KEYS
from mh_batch.jobs.jsonl.shapes import LineDefaults

from .template import Template

METADATA = "metadata"
MOST_REPEATS = 10_000
TARGETS = ALPACA_KEYS | {METADATA}

# a comma ends a pair only where another begins: columns may have commas in their names
_NEXT_PAIR = re.compile(r",(?=\s*\w+\s*=)")


class RowOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to make of the rows of a file.

    `prompt` is the text of a template, or `template` the one of a file; `line_template` says that
    it makes a whole line as JSON. `renamed` are pairs of a key of a line and the column that it is
    taken from; of `metadata` there may be several. `system` and `n` are for lines that do not name
    them. Of the first `limit` rows (`None`: all), `sample` are drawn at random with `seed`, and
    each is there `repeat` times.
    """

    prompt: str | None = None
    template: str | None = None
    line_template: bool = False
    template_name: str = "--prompt"
    renamed: tuple[tuple[str, str], ...] = ()
    system: str | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    repeat: int = 1

    @classmethod
    def parse(
        cls,
        prompt: str | None = None,
        template: Path | None = None,
        pairs: Sequence[str | tuple[str, str]] = (),
        **others: int | str | None,
    ) -> Self:
        """Build the options as they are typed; raises `InputError` naming the wrong one.

        A pair may be taken apart already.
        """
        given = {name: value for name, value in others.items() if value is not None}
        if "seed" in given and "sample" not in given:
            raise InputError("--seed: is for --sample only; --set seed=N is the batch's")
        if prompt is not None and template is not None:
            raise InputError("--prompt and --template: give one of them")
        if template is not None:
            given |= {
                "template": _read(template),
                "line_template": template.name.endswith((".json.jinja", ".json.j2")),
                "template_name": str(template),
            }
        renamed = tuple(one for pair in pairs for one in _pairs(pair))
        options = cls(prompt=prompt, renamed=renamed, **given)  # type: ignore[arg-type]
        options.check()
        return options

    def check(self) -> None:
        """Raise `InputError` for options that contradict each other, or a template that is none."""
        targets = [key for key, _ in self.renamed if key != METADATA]
        twice = next((key for key in targets if targets.count(key) > 1), None)
        if twice is not None:
            raise InputError(f"--map: {twice} is there twice")
        made = self.made()
        if made is not None and not self.line_template and "prompt" in targets:
            raise InputError(f"--map prompt: {made.origin} makes the prompt")

    def made(self) -> Template | None:
        """Return the template, `None` if there is none."""
        text = self.prompt if self.prompt is not None else self.template
        return None if text is None else Template(text, self.template_name)

    @property
    def defaults(self) -> LineDefaults:
        """What lines have that do not name it."""
        return LineDefaults(self.system, self.n)

    @property
    def makes_lines(self) -> bool:
        """Whether a row is not a line as it is."""
        return self.prompt is not None or self.template is not None or bool(self.renamed)

    @property
    def changes_rows(self) -> bool:
        """Whether rows are made into lines, chosen or repeated."""
        return (
            self.makes_lines or self.limit is not None or self.sample is not None or self.repeat > 1
        )

    def identify(self, sha256: str) -> str:
        """Return the hash by which a batch of a file with this hash is known.

        With other options a file makes another batch.
        """
        if self == AS_IT_IS:
            return sha256
        # the name of a template changes nothing
        options = msgspec.structs.replace(self, template_name=AS_IT_IS.template_name)
        return hashlib.sha256(sha256.encode() + msgspec.json.encode(options)).hexdigest()


AS_IT_IS = RowOptions()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--template {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--template {path}: not UTF-8") from None


def _pairs(given: str | tuple[str, str]) -> list[tuple[str, str]]:
    if isinstance(given, tuple):
        return [_pair(*given)]
    pairs = []
    for text in _NEXT_PAIR.split(given):
        key, equals, column = text.partition("=")
        if not equals or not column.strip():
            raise InputError(f"--map {text}: write it as key=column, such as prompt=question")
        pairs.append(_pair(key.strip(), column.strip()))
    return pairs


def _pair(key: str, column: str) -> tuple[str, str]:
    if key not in TARGETS:
        meant = nearest(key, TARGETS)
        cure = f"did you mean {meant}?" if meant else "such as prompt, custom_id, system or turns"
        raise InputError(f"--map {key}={column}: {key} is no key of a line; {cure}")
    return key, column
