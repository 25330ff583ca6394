"""Jobs and answers for property tests of their course."""

import msgspec
from hypothesis import strategies as st

from helpers.made import begun, claimed, cut, generation, lost, stuck
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Generation, GenerationRequest, StopReason

CIRCLES = msgspec.structs.replace(
    cut(), tokens=tuple(token for n in range(150) for token in (*range(500, 514), 1000 + n))
)  # a sentence with a counter, for more than 2,000 tokens

kinds = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("good", "rejected", "cut", "circles", "lost", "malformed", "loop", "call"),
                *("stuck", "json", "cut form", "violated", "constraint"),
            ]
        ),
        st.sampled_from([True, True, True, False]),
    ),
    max_size=16,
)
"""What an engine makes of one request after the other, and whether a begun answer fits."""

jobs = st.builds(
    lambda context, turns, n, results, attempts, steps, form: claimed(
        (Message("user", "Hi"),) if context or not turns else (),
        tuple("abc"[:turns]),
        n=n,
        tool_results=results,
        max_attempts=attempts,
        max_steps=steps,
        structured_outputs=form,
    ),
    st.booleans(),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from([None, {"f0": "0", "f1": "1"}, ("x", "y")]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([None, {"json_object": True}, {"regex": "[a-z]*"}]),
)


def answer(kind: str, fits: bool, index: int, request: GenerationRequest) -> Generation:
    """What an engine makes of a request, begun as it asks for unless that does not fit."""
    given = request.forced_final if request.continues is None else request.continues.tokens
    made_of_it = msgspec.structs.replace(made(kind, index), max_tokens=request.sampling.max_tokens)
    if not (given and fits):
        return made_of_it
    if request.continues is not None:
        made_of_it = msgspec.structs.replace(made_of_it, max_tokens=request.continues.max_tokens)
    return begun(made_of_it, *given)


def rejection(kind: str, index: int) -> str | None:
    """Why a check does not accept what an engine made: a reason of its own for each attempt."""
    return f"reason {index}" if kind == "rejected" else None


def made(kind: str, index: int) -> Generation:
    """A generation with texts of its own, so that a mix-up of attempts shows."""
    text = f"answer {index}"
    match kind:
        case "lost":
            return lost()
        case "good" | "rejected":
            return generation(text)
        case "malformed":
            return generation(text, problems=("junk",))
        case "loop":
            return generation(text, problems=("truncated",), stop=StopReason.LOOP_DETECTED)
        case "call":
            return generation(None, call=f"f{index % 3}")
        case "stuck":
            return msgspec.structs.replace(stuck(), tokens=(index,))
        case "circles":
            return CIRCLES
        case "json":
            return generation(f'{{"answer": {index}}}')
        case "violated":
            return generation(text, problems=("form_violated",))
        case "cut form":
            problems = ("truncated", "incomplete_form")
            return generation(text, problems=problems, stop=StopReason.MAX_TOKENS)
        case "constraint":
            return generation(text, problems=("truncated",), stop=StopReason.CONSTRAINT_FAILED)
        case _:
            return cut()
