"""Scenes and what happens in them: tasks with a past, tools, guidance, and answers cut short."""

from dataclasses import dataclass, replace

from openai_harmony import Message

from . import tasks, wordings
from .tasks import Source, Task
from .tools import Function, random_functions, request_call, result_text, state_result
from .transcripts import Lesson, called, developer, returned, said, system, user

TASKS = (
    tasks.calculate,
    tasks.greet,
    tasks.decline,
    tasks.loop,
    tasks.ponder,
    tasks.count,
    tasks.count_far,
    tasks.count_on,
)
OFTEN = (36, 4, 13, 8, 5, 14, 3, 3)
ENDLESS_OFTEN = (0, 0, 4, 20, 25, 5, 32, 14)


@dataclass(frozen=True, slots=True)
class Scene:
    """What every conversation of one row begins with."""

    messages: tuple[Message, ...]
    functions: tuple[Function, ...]


def random_scene(source: Source) -> Scene:
    """A system message, and perhaps instructions, functions, or both."""
    rng = source.rng
    date = f"{rng.randrange(2020, 2031)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    opening = system(rng.choice(("Low", "Medium", "High")), date if rng.random() < 0.6 else None)
    functions = random_functions(source) if rng.random() < 0.55 else []
    text = ""
    roll = rng.random()
    if roll < 0.3:
        text = rng.choice(wordings.INSTRUCTIONS).format(word=source.word(), other=source.word())
    elif roll < 0.45:
        text = tasks.word_salad(rng, rng.choice([5, 15, 40, max(20, source.length // 2)]))
    if not text and not functions:
        return Scene((opening,), ())
    declared = [function.declared for function in functions]
    return Scene((opening, developer(text, declared)), tuple(functions))


def random_lesson(source: Source, scene: Scene, endless: bool = False) -> Lesson:
    """One completion: usually of a fresh conversation, sometimes with a past."""
    rng = source.rng
    if scene.functions and rng.random() < 0.6:
        return _with_function(source, scene)
    past: list[Message] = []
    value = None
    if rng.random() < (0.1 if endless else 0.35):
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
            task = _task(source, value)
            past += _as_past(task, with_analysis=rng.random() < 0.5)
            value = task.value
    task = _task(source, value, endless)
    return _dress(source, task, past)


def _task(source: Source, value: int | None, endless: bool = False) -> Task:
    if value is not None and -150 < value < 250 and source.rng.random() < 0.8:
        return tasks.follow_up(source, value)
    weights = ENDLESS_OFTEN if endless else OFTEN
    return source.rng.choices(TASKS, weights)[0](source)


def _as_past(task: Task, with_analysis: bool) -> list[Message]:
    """A turn that is over; openai-harmony drops an analysis only before the first final."""
    answer = task.brief if task.answer.endless and task.brief else task.answer
    final = said("final", answer.final)
    thought = [said("analysis", answer.analysis)] if with_analysis else []
    return [user(task.request), *thought, final]


def guide(source: Source, request: str) -> list[Message]:
    """The request with guidance to be brief, in one of its two forms."""
    text = source.wording(wordings.GUIDANCE)
    if source.rng.random() < 0.65:
        return [user(request), developer(text)]
    return [user(f"{request}\n\n{text}")]


def _dress(source: Source, task: Task, past: list[Message]) -> Lesson:
    rng = source.rng
    plain = Lesson(task.kind, (*past, user(task.request)), task.answer, task.brief)
    guided = rng.random() < (0.4 if task.brief else 0.15)
    if guided:
        messages = (*past, *guide(source, task.request))
        lesson = replace(plain, messages=messages, answer=task.brief or task.answer)
        return replace(lesson, kind=f"guided {task.kind}")
    if task.kind == "ponder" and rng.random() < 0.4:
        return rescued(task, plain, rng.random())
    if task.kind in {"sum", "follow-up", "anything else"} and rng.random() < 0.12:
        share = rng.random() if rng.random() < 0.5 else 0.75 + 0.25 * rng.random()
        return rescued(task, plain, share)
    return plain


def rescued(task: Task, lesson: Lesson, share: float) -> Lesson:
    """The same request with its analysis cut off after `share` of it, and the final opened."""
    final = task.brief.final if task.brief else task.answer.final
    answer = replace(task.answer, final=final)
    return replace(lesson, kind=f"rescued {task.kind}", answer=answer, rescue=share)


def _with_function(source: Source, scene: Scene) -> Lesson:
    rng = source.rng
    function = rng.choice(scene.functions)
    request, answer = request_call(source, function)
    assert answer.call
    ask = guide(source, request) if rng.random() < 0.12 else [user(request)]
    result = result_text(source)
    work = [
        said("analysis", answer.analysis),
        called(*answer.call),
        returned(function.name, result),
    ]
    told = state_result(result)
    roll = rng.random()
    if roll < 0.6:
        past = _as_past(tasks.calculate(source), with_analysis=False) if rng.random() < 0.1 else []
        return Lesson("call", (*past, *ask), answer)
    if roll < 0.9:
        after = [developer(source.wording(wordings.GUIDANCE))] if rng.random() < 0.08 else []
        return Lesson("tool result", (*ask, *work, *after), told)
    past = [*ask, *work, said("analysis", told.analysis), said("final", told.final)]
    if rng.random() < 0.5:
        request, answer = request_call(source, function)
        return Lesson("call", (*past, user(request)), answer)
    return _dress(source, _task(source, None), past)
