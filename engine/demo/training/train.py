"""Train the demo model: `python -m mh_batch.engine.demo.training.train FOLDER`.

One core, about one second a step. The folder gets a checkpoint every `--every` steps; an export of
any of them is a whole model. Set `TIKTOKEN_ENCODINGS_BASE` to a folder with o200k_base.tiktoken.
"""

import argparse
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from .network import Network, Shape
from .optim import optimisers
from .packing import Batch, copied_tokens, lesson_batch, repeat_batch
from .packing import Shape as BatchShape
from .vocabulary import FIRST_SPECIAL_TOKEN, encode

SHORT = BatchShape(rows=24, length=320)
LONG = BatchShape(rows=4, length=1280, endless=True)
MUON_RATE, ADAM_RATE, NUMBER_DECAY = 0.015, 3e-3, 3e-3


def core_tokens(seed: int, batches: int = 60) -> list[int]:
    """The tokens that get rows of their own: control tokens, numbers, and what comes up often."""
    rng = random.Random(seed)
    seen: Counter[int] = Counter()
    for _ in range(batches):
        batch = lesson_batch(rng, SHORT)
        seen.update(batch.tokens[batch.segments >= 0].tolist())
    numbers = {encode(str(number))[0] for number in range(1000)}
    special = {token for token in seen if token >= FIRST_SPECIAL_TOKEN}
    return sorted(numbers | special | {token for token, times in seen.items() if times >= batches})


def rate_at(step: int, steps: int) -> float:
    """The share of the full rate: a short rise, a plateau, and a straight way down to zero."""
    return min((step + 1) / 40, 1.0, (steps - step) / (0.55 * steps))


def next_batch(rng: random.Random, step: int, steps: int, pool: list[int]) -> Batch:
    """Mostly lessons; one batch in eight is long, one repeats random tokens (more at first)."""
    if step % 8 == 3 or (step < 0.1 * steps and step % 2 == 0):
        return repeat_batch(rng, SHORT, pool)
    return lesson_batch(rng, LONG if step % 8 == 7 else SHORT)


def save(network: Network, core: list[int], seed: int, path: Path) -> None:
    """Write a checkpoint that `export` can read, whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({"weights": network.state_dict(), "core": core, "seed": seed}, part)
    part.replace(path)


@dataclass(frozen=True, slots=True)
class Plan:
    """How far to train; `begin` is not 0 where a checkpoint of that step is taken up again."""

    steps: int
    begin: int
    every: int
    threads: int


def start(folder: Path, seed: int, resume: Path | None) -> tuple[Network, list[int]]:
    """A new network, or the one of a checkpoint, and its core tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    stored = torch.load(resume, weights_only=True) if resume else None
    core = stored["core"] if stored else core_tokens(seed)
    network = Network(Shape(), core, copied_tokens(), code_seed=seed)
    if stored:
        network.load_state_dict(stored["weights"])
    print(f"{len(core)} core tokens, {len(network.candidates)} candidates", flush=True)
    return network, core


def learn(network: Network, movers: list[torch.optim.Optimizer], batch: Batch) -> float:
    """Take one step; return the loss before it."""
    arrays = (batch.tokens, batch.targets, batch.segments, batch.positions)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network.loss([torch.from_numpy(array) for array in arrays])
    network.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for mover in movers:
        mover.step()
    return loss.item()


def train(folder: Path, plan: Plan, seed: int, resume: Path | None = None) -> None:
    """Train, the same for the same seed and plan."""
    torch.set_num_threads(plan.threads)
    network, core = start(folder, seed, resume)
    pool = copied_tokens()
    movers = optimisers(network, MUON_RATE, ADAM_RATE)
    rng = random.Random(seed + 1 + plan.begin)
    begun, seen, mean = time.monotonic(), 0, 0.0
    for step in range(plan.begin, plan.steps):
        share = rate_at(step, plan.steps)
        for mover, rate in zip(movers, (MUON_RATE, ADAM_RATE), strict=True):
            mover.param_groups[0]["lr"] = rate * share
        batch = next_batch(rng, step, plan.steps, pool)
        loss = learn(network, movers, batch)
        for rows in (network.embed_tokens, network.head):
            rows.forget_numbers(NUMBER_DECAY * share)
        seen += int((batch.segments >= 0).sum())
        mean = 0.95 * mean + 0.05 * loss if step > plan.begin else loss
        if step % 20 == 0 or step == plan.steps - 1:
            spent = time.monotonic() - begun
            print(f"{step} loss {loss:.4f} mean {mean:.4f} tokens {seen} {spent:.0f} s", flush=True)
        if step % plan.every == plan.every - 1 or step == plan.steps - 1:
            save(network, core, seed, folder / "checkpoint.pt")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--begin", type=int, default=0, help="the step that --resume stands at")
    parser.add_argument("--resume", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    plan = Plan(options.steps, options.begin, options.every, options.threads)
    train(options.folder, plan, options.seed, options.resume)


if __name__ == "__main__":
    main()
