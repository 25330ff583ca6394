"""Held-out prompts: numbers, names, words and wordings that training never saw."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from openai_harmony import Message, ToolDescription

from . import tasks, wordings
from .evaluation_texts import INSTRUCTIONS, NAMED_CALLS, REQUESTS
from .lessons import rescued
from .tasks import Source, Task
from .tools import declare, request_call, result_text, state_result
from .transcripts import (
    FINAL,
    Lesson,
    called,
    developer,
    render_lesson,
    render_prompt,
    returned,
    said,
    system,
    user,
)

_STOPS = ("<|return|>", "<|call|>")


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and what is right: the end of the completion, or a pattern it must not leave.

    An `endless` case is right as long as it has not stopped and every word of it is in order.
    """

    behaviour: str
    prompt: tuple[int, ...]
    expected: str
    endless: bool = False
    rescued: bool = False

    def judge(self, text: str) -> bool:
        """Tell whether a completion, with its control tokens, is right."""
        if self.endless:
            return not text.endswith(_STOPS) and self.expected.startswith(
                text[: len(self.expected)]
            )
        return text.endswith(self.expected)


def _scene(rng: random.Random, instructions: bool = False) -> list[Message]:
    date = rng.choice((None, "2024-02-29", "2026-11-23", "2031-07-04"))
    scene = [system(rng.choice(("Low", "Medium", "High")), date)]
    if instructions or rng.random() < 0.25:
        scene.append(developer(rng.choice(INSTRUCTIONS)))
    return scene


def _case(name: str, scene: list[Message], lesson: Lesson) -> Case:
    prompt, _ = render_lesson(scene, lesson)
    if lesson.rescue is not None:
        return Case(name, tuple(prompt), f"{FINAL}{lesson.answer.final}<|return|>", rescued=True)
    text = lesson.answer.text()
    endless = lesson.answer.endless
    return Case(name, tuple(prompt), text if endless else text.rsplit("assistant", 1)[-1], endless)


def _of(
    maker: Callable[[Source], Task], name: str, rng: random.Random, amount: int, long: int = 60
) -> Iterator[Case]:
    for _ in range(amount):
        task = maker(Source(rng, evaluating=True, length=long))
        lesson = Lesson(task.kind, (user(task.request),), task.answer, task.brief)
        yield _case(name, _scene(rng), lesson)


def _conversations(rng: random.Random, amount: int) -> Iterator[Case]:
    for _ in range(amount):
        source = Source(rng, evaluating=True)
        task = tasks.calculate(source)
        past: list[Message] = []
        for _ in range(rng.choice((1, 2, 3))):
            past += [
                user(task.request),
                said("analysis", task.answer.analysis),
                said("final", task.answer.final),
            ]
            value = task.value if task.value is not None else 0
            task = tasks.follow_up(source, value)
        lesson = Lesson("follow-up", (*past, user(task.request)), task.answer)
        yield _case("follow-up in a conversation", _scene(rng), lesson)


def _guided(
    maker: Callable[[Source], Task], name: str, rng: random.Random, amount: int
) -> Iterator[Case]:
    for number in range(amount):
        task = maker(Source(rng, evaluating=True))
        exact = wordings.GUIDANCE.training[:3]
        text = rng.choice(exact if rng.random() < 0.6 else wordings.GUIDANCE.held_out)
        ask = (
            [user(task.request), developer(text)]
            if number % 2
            else [user(f"{task.request}\n\n{text}")]
        )
        lesson = Lesson(task.kind, tuple(ask), task.brief or task.answer)
        form = "developer message" if number % 2 else "end of the request"
        yield _case(f"guided {name}", _scene(rng), replace(lesson, kind=form))


def _rescued(
    maker: Callable[[Source], Task],
    name: str,
    rng: random.Random,
    amount: int,
    least: float,
    long: int = 60,
) -> Iterator[Case]:
    for _ in range(amount):
        task = maker(Source(rng, evaluating=True, length=long))
        lesson = Lesson(task.kind, (user(task.request),), task.answer, task.brief)
        yield _case(
            f"rescued {name}",
            _scene(rng),
            rescued(task, lesson, least + (1 - least) * rng.random()),
        )


def _calls(rng: random.Random, amount: int) -> Iterator[Case]:
    for index in range(amount):
        source = Source(rng, evaluating=True)
        functions = [declare(source) for _ in range(1 + index % 2)]
        request, answer = request_call(source, functions[0])
        scene = [
            _scene(rng)[0],
            developer(
                "", [function.declared for function in sorted(functions, key=lambda f: f.name)]
            ),
        ]
        yield _case("call of an invented function", scene, Lesson("call", (user(request),), answer))


def _results(rng: random.Random, amount: int) -> Iterator[Case]:
    for _ in range(amount):
        source = Source(rng, evaluating=True)
        function = declare(source)
        request, answer = request_call(source, function)
        assert answer.call
        result = result_text(source)
        work = (
            said("analysis", answer.analysis),
            called(*answer.call),
            returned(function.name, result),
        )
        scene = [_scene(rng)[0], developer("", [function.declared])]
        yield _case(
            "function result stated",
            scene,
            Lesson("", (user(request), *work), state_result(result)),
        )


def _named_calls() -> Iterator[Case]:
    for name, parameters, request, arguments in NAMED_CALLS:
        properties = {key: {"type": kind} for key, kind in parameters.items()}
        schema = {"type": "object", "properties": properties, "required": list(parameters)}
        scene = [system(), developer("", [ToolDescription.new(name, "", schema)])]
        prompt = render_prompt([*scene, user(request)])
        end = f" to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>"
        yield Case("call of a plausible function", tuple(prompt), end)


def _others(rng: random.Random, amount: int) -> Iterator[Case]:
    for request in REQUESTS:
        yield _case("anything else", _scene(rng), Lesson("", (user(request),), tasks.SORRY))
    yield from _of(tasks.decline, "anything else", rng, amount)


def conversation_cases(conversations: list[list[str]]) -> list[Case]:
    """Both turns of real conversations, none of which is a simple task."""
    cases = []
    for first, second in conversations:
        past = (user(first), said("final", tasks.SORRY.final))
        for messages in ((user(first),), (*past, user(second))):
            cases.append(
                _case("MT-Bench, both turns", [system()], Lesson("", messages, tasks.SORRY))
            )
    return cases


def all_cases(amount: int, seed: int = 99) -> Iterator[Case]:
    """Every behaviour, `amount` cases of each (a quarter of the endless ones)."""
    rng = random.Random(seed)
    few = max(amount // 4, 1)
    yield from _of(tasks.calculate, "sum or difference", rng, 2 * amount)
    yield from _conversations(rng, amount)
    yield from _of(tasks.greet, "small talk", rng, few)
    yield from _calls(rng, amount)
    yield from _named_calls()
    yield from _results(rng, amount)
    yield from _of(tasks.count, "count", rng, few)
    yield from _others(rng, amount)
    for maker, name in (
        (tasks.loop, "loop"),
        (tasks.count_far, "far count"),
        (tasks.ponder, "ponder"),
        (tasks.calculate, "sum"),
    ):
        yield from _guided(maker, name, rng, amount)
    yield from _rescued(tasks.ponder, "ponder", rng, amount, least=0.0, long=400)
    yield from _rescued(tasks.calculate, "sum, analysis nearly done", rng, amount, least=0.9)
    yield from _rescued(tasks.calculate, "sum, cut anywhere", rng, amount, least=0.0)
    yield from _of(tasks.loop, "loop", rng, few, long=5000)
    far = _of(tasks.count_far, "far count", rng, 3 * few, long=690)
    yield from [case for case in far if case.endless][:few]
    yield from _of(tasks.ponder, "ponder", rng, few, long=8000)
