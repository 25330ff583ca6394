"""Measure a model folder on what it was never trained on: `... .evaluate FOLDER [--mt-bench FILE]`.

Every number comes from the folder as it is, run by MLX. The table goes to standard output.
"""

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
from mlx_lm.models.gpt_oss import Model
from mlx_lm.utils import load_model

from .cases import Case, all_cases, conversation_cases
from .transcripts import FINAL
from .vocabulary import harmony

_HEADER = re.compile(
    r"<\|channel\|>(?P<channel>analysis|commentary|final)"
    r"(?P<call> to=functions\.[A-Za-z0-9_-]{1,64} ?<\|constrain\|>json)?<\|message\|>"
    r"(?P<content>.+)",
    re.DOTALL,
)
_CONTROL = re.compile(r"<\|[a-z_]+\|>")


def generate(
    model: Model, prompt: Sequence[int], limit: int, temperature: float, seed: int
) -> list[int]:
    """Sample up to `limit` tokens; a stop token, if one came, is the last."""
    stops = set(harmony().stop_tokens_for_assistant_actions())
    cache = model.make_cache()
    if len(prompt) > 1:
        model(mx.array([prompt[:-1]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    token = mx.array([[prompt[-1]]])
    said: list[int] = []
    for index in range(limit):
        logits = model(token, cache=cache)[:, -1]
        if temperature:
            key = mx.random.key(1_000_003 * seed + index)
            token = mx.random.categorical(logits / temperature, key=key)[None]
        else:
            token = mx.argmax(logits, axis=-1)[None]
        said.append(cast(int, token.item()))
        if said[-1] in stops:
            break
    return said


def well_formed(text: str) -> bool:
    """Judge a completion with its control tokens: exactly one way to end, nothing out of place."""
    if text.endswith("<|return|>"):
        body, wanted = text.removesuffix("<|return|>"), "final"
    elif text.endswith("<|call|>"):
        body, wanted = text.removesuffix("<|call|>"), "commentary"
    else:
        return False
    messages = [_HEADER.fullmatch(part) for part in body.split("<|end|><|start|>assistant")]
    if any(
        m is None or _CONTROL.search(m["content"]) or not m["content"].strip() for m in messages
    ):
        return False
    *earlier, last = (message for message in messages if message)
    if any(message["channel"] != "analysis" or message["call"] for message in earlier):
        return False
    if last["channel"] != wanted or bool(last["call"]) != (wanted == "commentary"):
        return False
    return wanted == "final" or _is_object(last["content"])


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def ending(text: str) -> str:
    """The last message of a completion, with its header and its stop token."""
    return text.rsplit("<|start|>assistant", 1)[-1]


class Tally:
    """Counts of one behaviour."""

    def __init__(self) -> None:
        self.cases = self.formed = self.stopped = self.right = self.tokens = 0

    def add(self, case: Case, said: list[int]) -> str:
        """Judge one completion; return its text."""
        text = harmony().decode(said)
        whole = FINAL + text if case.rescued else text
        stopped = whole.endswith(("<|return|>", "<|call|>"))
        self.cases += 1
        self.tokens += len(said)
        self.stopped += stopped
        self.formed += well_formed(whole)
        self.right += case.judge(whole)
        return whole

    def row(self, name: str) -> str:
        """A row of the table."""
        shares = (self.formed, self.stopped, self.right)
        cells = " | ".join(f"{100 * share / self.cases:.0f}%" for share in shares)
        return f"| {name} | {self.cases} | {cells} | {self.tokens / self.cases:.0f} |"


def measure(
    model: Model, cases: list[Case], temperature: float, limit: int, verbose: bool
) -> Iterator[str]:
    """Run all cases at one temperature; yield the rows of the table."""
    mode = "greedy" if temperature == 0 else f"temperature {temperature:g}"
    yield f"| {mode} | cases | well formed | ends on stop | right | mean tokens |"
    yield "|---|---|---|---|---|---|"
    ending_all = Tally()
    for name, group in itertools.groupby(cases, key=lambda case: case.behaviour):
        tally = Tally()
        for number, case in enumerate(group):
            said = generate(model, case.prompt, limit, temperature, seed=number)
            text = tally.add(case, said)
            if not case.endless:
                ending_all.add(case, said)
            if verbose and not case.judge(text):
                tail = harmony().decode(case.prompt)[-220:]
                print(f"    {name}: {tail!r}\n    -> {text[:300]!r} ... {text[-60:]!r}")
        yield tally.row(name + (" (must not stop)" if tally.cases and case.endless else ""))
    yield ending_all.row("**all that must stop**")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mt-bench", type=Path, help="JSONL of conversations with `turns`")
    parser.add_argument("--cases", type=int, default=40, help="of each behaviour")
    parser.add_argument("--only", default="", help="a regular expression on behaviours")
    parser.add_argument("--limit", type=int, default=700)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--verbose", action="store_true", help="print every wrong answer")
    options = parser.parse_args()
    model, _ = load_model(options.folder)
    cases = list(all_cases(options.cases))
    if options.mt_bench:
        lines = options.mt_bench.read_text(encoding="utf-8").splitlines()
        cases += conversation_cases([json.loads(line)["turns"] for line in lines])
    cases = [case for case in cases if re.search(options.only, case.behaviour)]
    for temperature in options.temperatures:
        begun = time.monotonic()
        for row in measure(model, cases, temperature, options.limit, options.verbose):
            print(row, flush=True)
        print(f"\n{time.monotonic() - begun:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
