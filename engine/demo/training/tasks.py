"""The simple tasks: sums, counts, loops, pondering, greetings, and everything else."""

import functools
import random
from dataclasses import dataclass

from . import wordings
from .transcripts import Answer
from .vocabulary import copies_cleanly, held_out, token_texts, words

SORRY = Answer("This is not a simple task.", "Sorry, I can only do simple tasks.")
TRAINING_WORDS = 2000
FAR = 40


@dataclass(frozen=True, slots=True)
class Task:
    """A request, its answer, and the answer that guidance to be brief turns it into.

    `value` is what a follow-up ("And plus 5?") starts from.
    """

    kind: str
    request: str
    answer: Answer
    brief: Answer | None = None
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a task comes from: a random stream, and which side of the held-out line it is on.

    `length` is about how many tokens an endless answer runs for.
    """

    rng: random.Random
    evaluating: bool = False
    length: int = 60

    def wording(self, choices: wordings.Wordings) -> str:
        """One of the wordings of this side."""
        return self.rng.choice(choices.held_out if self.evaluating else choices.training)

    def word(self) -> str:
        """A word the model must be able to copy: frequent, rare, or made up."""
        pool = word_pool(self.evaluating)
        roll = self.rng.random()
        if roll < 0.85:
            return self.rng.choice(pool)
        for _ in range(20):
            made_up = "".join(self.rng.sample(pool, 2)).lower()
            if copies_cleanly(made_up):
                return made_up
        return self.rng.choice(pool)


@functools.cache
def word_pool(evaluating: bool) -> tuple[str, ...]:
    """The words that tasks are about: the frequent ones and a fixed choice of the others."""
    known = words(evaluating)
    half = TRAINING_WORDS // 2
    return known[:half] + tuple(random.Random(0).sample(known[half:], half))


def add_by_columns(left: int, right: int) -> str:
    """The sum of two numbers that are not negative, as it is worked out."""
    units = left % 10 + right % 10
    tens = left // 10 + right // 10 + units // 10
    return (
        f"Units {left % 10} + {right % 10} = {units}. "
        f"Tens {left // 10} + {right // 10} + {units // 10} = {tens}. So {left + right}."
    )


def subtract_by_columns(left: int, right: int) -> str:
    """The difference of two numbers, the first not smaller, as it is worked out."""
    borrow = int(left % 10 < right % 10)
    units = left % 10 + 10 * borrow
    tens = left // 10 - borrow - right // 10
    return (
        f"Units {units} - {right % 10} = {units - right % 10}. "
        f"Tens {left // 10} - {right // 10} - {borrow} = {tens}. So {left - right}."
    )


def work_out(left: int, sign: str, right: int) -> Answer:
    """The answer to `left sign right`, by columns in the analysis; `left` may be negative."""
    result = left + right if sign == "+" else left - right
    analysis = f"{left} {sign} {right}. "
    if left < 0 and sign == "+":
        small, large = sorted((-left, right))
        analysis += f"Swap: {right} - {-left}. "
        if right < -left:
            analysis += f"Less than 0: {large} - {small}. "
        analysis += subtract_by_columns(large, small)
    elif left < 0:
        analysis += f"Both less than 0: {-left} + {right}. " + add_by_columns(-left, right)
    elif sign == "+":
        analysis += add_by_columns(left, right)
    elif left >= right:
        analysis += subtract_by_columns(left, right)
    else:
        analysis += f"Less than 0: {right} - {left}. " + subtract_by_columns(right, left)
    return Answer(analysis, f"{left} {sign} {right} = {result}")


def _operand(rng: random.Random) -> int:
    return rng.randrange(100) if rng.random() < 0.85 else rng.randrange(13)


def calculate(source: Source) -> Task:
    """A sum or a difference."""
    while True:
        sign = source.rng.choice("+-")
        left, right = _operand(source.rng), _operand(source.rng)
        if source.rng.random() < 0.06:
            left = source.rng.randrange(100, 200)
        if held_out(f"{left}{sign}{right}", 8) == source.evaluating:
            break
    wording = source.wording(wordings.SUMS if sign == "+" else wordings.DIFFERENCES)
    request = wording.format(left=left, right=right)
    return Task("sum", request, work_out(left, sign, right), value=eval_sign(left, sign, right))


def eval_sign(left: int, sign: str, right: int) -> int:
    """The number itself."""
    return left + right if sign == "+" else left - right


def follow_up(source: Source, value: int) -> Task:
    """A sum or a difference that starts from the last answer."""
    sign = source.rng.choice("+-")
    right = (
        source.rng.randrange(1, 60) if source.rng.random() < 0.6 else source.rng.randrange(1, 10)
    )
    wording = source.wording(wordings.THEN_ADD if sign == "+" else wordings.THEN_SUBTRACT)
    answer = work_out(value, sign, right)
    return Task(
        "follow-up", wording.format(right=right), answer, value=eval_sign(value, sign, right)
    )


def count(source: Source) -> Task:
    """A count that ends soon, from 1 or from anywhere."""
    rng = source.rng
    first = 1 if rng.random() < 0.55 else rng.randrange(2, 960)
    last = first + rng.randrange(2, FAR)
    if rng.random() < 0.03:
        first, last = rng.randrange(970, 998), 1000
    return _counting("count", source, first, last)


def count_far(source: Source) -> Task:
    """A count that runs past any small `max_tokens`."""
    far = [100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 999, 1000]
    rng = source.rng
    return _counting(
        "far count", source, 1, rng.choice(far) if rng.random() < 0.6 else rng.randrange(100, 1000)
    )


def count_on(source: Source) -> Task:
    """A count that starts high and runs on: the far end of a long count, cheaply."""
    first = source.rng.randrange(2, 800)
    return _counting("far count", source, first, source.rng.randrange(first + 100, 1001))


def _counting(kind: str, source: Source, first: int, last: int) -> Task:
    wording = source.wording(wordings.COUNT if first == 1 else wordings.COUNT_FROM)
    request = wording.format(first=first, last=last)
    analysis = f"Count from {first} to {last}."
    shown = min(last, first + source.length // 3) if kind == "far count" else last
    final = ", ".join(str(number) for number in range(first, shown + 1))
    brief = None
    if last - first >= FAR:
        short = f"{first}, {first + 1}, {first + 2} and so on up to {last}."
        brief = Answer(analysis, short)
    return Task(kind, request, Answer(analysis, final, endless=shown < last), brief)


def loop(source: Source) -> Task:
    """A word to be repeated for ever."""
    word = source.word()
    request = source.wording(wordings.LOOP).format(word=word)
    analysis = f"Repeat {word}."
    endless = Answer(analysis, " ".join([word] * source.length), endless=True)
    return Task("loop", request, endless, Answer(analysis, f"Here it is once: {word}."))


def ponder(source: Source) -> Task:
    """A subject to think about for a long time."""
    subject = source.word().lower()
    request = source.wording(wordings.PONDER).format(word=subject)
    thoughts = range(1, source.length // 6 + 2)
    analysis = " ".join(f"Thought {number} about {subject}." for number in thoughts)
    final = f"I thought about {subject}."
    return Task(
        "ponder", request, Answer(analysis, endless=True), Answer(f"Think about {subject}.", final)
    )


def greet(source: Source) -> Task:
    """A greeting, thanks, a farewell, or the question who is there."""
    requests, final = source.rng.choice(wordings.SMALL_TALK)
    return Task("small talk", source.rng.choice(requests), Answer("Small talk.", final))


def decline(source: Source) -> Task:
    """Anything else."""
    rng = source.rng
    roll = rng.random()
    if roll < 0.4:
        request = source.wording(wordings.OTHER).format(
            word=source.word(), other=source.word(), left=_operand(rng), right=_operand(rng)
        )
        if rng.random() < 0.2:
            request += " " + word_salad(rng, rng.randrange(3, 20))
    else:
        request = word_salad(rng, rng.choice([1, 2, 5, 10, 20, max(3, source.length // 2)]))
    return Task("anything else", request, SORRY)


def word_salad(rng: random.Random, length: int) -> str:
    """Text like no task: words by frequency, numbers, marks, other scripts, code."""
    texts = token_texts()
    alien = rng.random() < 0.25
    known = words(False)
    pieces: list[str] = []
    for _ in range(length):
        roll = rng.random()
        if alien and roll < 0.7:
            pieces.append(texts[rng.randrange(256, len(texts))])
        elif roll < 0.80:
            pieces.append(" " + known[int(len(known) ** rng.random()) - 1])
        elif roll < 0.92:
            pieces.append(rng.choice(wordings.FUNCTION_WORDS))
        elif roll < 0.94:
            pieces.append(f" {rng.randrange(10 ** rng.randrange(1, 5))}")
        else:
            pieces.append(rng.choice(wordings.MARKS))
    text = "".join(pieces).strip() or "Why?"
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["", ".", ".", "?", "?", "!"])
