"""Batches: rows of one scene and several lessons that do not see each other."""

import random
from dataclasses import dataclass

import numpy as np

from .lessons import random_lesson, random_scene
from .tasks import Source, word_pool
from .transcripts import encode_answer, render_lesson
from .vocabulary import encode

IGNORED = -1


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows of `length` tokens; `endless` fills them with answers that have no end."""

    rows: int
    length: int
    endless: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Arrays of shape (rows, length).

    `segments` is 0 for the scene, which every lesson of the row sees, and -1 for padding;
    `positions` restart after the scene; `targets` is the next token, or IGNORED.
    """

    tokens: np.ndarray
    targets: np.ndarray
    segments: np.ndarray
    positions: np.ndarray


def empty_batch(shape: Shape) -> Batch:
    """A batch of padding."""
    size = (shape.rows, shape.length)
    return Batch(
        np.zeros(size, np.int64),
        np.full(size, IGNORED, np.int64),
        np.full(size, -1, np.int64),
        np.zeros(size, np.int64),
    )


def lesson_batch(rng: random.Random, shape: Shape) -> Batch:
    """Rows of lessons."""
    batch = empty_batch(shape)
    for row in range(shape.rows):
        _fill_row(batch, row, rng, shape)
    return batch


def _fill_row(batch: Batch, row: int, rng: random.Random, shape: Shape) -> None:
    short = Source(rng)
    scene = random_scene(Source(rng, length=rng.choice((60, 60, shape.length // 2))))
    begun = end = segment = 0
    while end < shape.length - 40 or not segment:
        room = shape.length - end
        source = Source(rng, length=room) if shape.endless and rng.random() < 0.8 else short
        lesson = random_lesson(source, scene, endless=source.length == room)
        prompt, answer = render_lesson(scene.messages, lesson)
        if not segment:
            begun = end = _place_scene(batch, row, prompt, shape)
        body = prompt[begun:] + answer
        if len(body) > shape.length - end and not shape.endless and rng.random() < 0.9 and segment:
            break
        segment += 1
        body = body[: shape.length - end]
        span = slice(end, end + len(body))
        batch.tokens[row, span] = body
        batch.segments[row, span] = segment
        batch.positions[row, span] = begun + np.arange(len(body))
        first = max(len(prompt) - begun - 1, 0)
        learned = body[first + 1 :]
        batch.targets[row, end + first : end + first + len(learned)] = learned
        end += len(body)


def _place_scene(batch: Batch, row: int, prompt: list[int], shape: Shape) -> int:
    """Write the tokens up to the first user message, which all lessons share; return how many."""
    user = encode_answer("<|start|>user")
    begun = next(i for i in range(len(prompt)) if prompt[i : i + 2] == user)
    begun = min(begun, shape.length - 60)
    batch.tokens[row, :begun] = prompt[:begun]
    batch.segments[row, :begun] = 0
    batch.positions[row, :begun] = np.arange(begun)
    return begun


def repeat_batch(rng: random.Random, shape: Shape, pool: list[int]) -> Batch:
    """Rows of random tokens that come again: what teaches the model to copy."""
    batch = empty_batch(shape)
    for row in range(shape.rows):
        end = 0
        while end < shape.length:
            period = rng.randrange(4, 40)
            piece = [rng.choice(pool) for _ in range(period)]
            body = (piece * 3)[: shape.length - end]
            span = slice(end, end + len(body))
            batch.tokens[row, span] = body
            batch.segments[row, span] = end + 1
            batch.positions[row, span] = rng.randrange(100) + np.arange(len(body))
            batch.targets[row, end + period - 1 : end + len(body) - 1] = body[period:]
            end += len(body)
    return batch


def copied_tokens() -> list[int]:
    """The tokens of the words that tasks are about, in every form the vocabulary has of them."""
    found: set[int] = set()
    for word in word_pool(False):
        for text in (word, word.lower(), word.capitalize()):
            for prefix in ("", " ", "_", "."):
                tokens = encode(prefix + text)
                found.update(tokens if len(tokens) == 1 else [])
    return sorted(found)
