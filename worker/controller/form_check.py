"""Whether an answer has the form that was asked for: the second look, once it is there.

The model cannot write anything else, so this finds faults of the program, not of the model. Answers
that were cut are told apart from those that end.
"""

import msgspec

from mh_batch.jobs.answers.forms import INCOMPLETE, VIOLATED, Form
from mh_batch.jobs.generation import Generation, Parse, StopReason


def check_generation(generation: Generation, form: Form | None) -> Generation:
    """Return a generation whose parse has the problems of its answer's form."""
    parse = check_parse(generation.parse, generation.stop_reason, form)
    if parse is generation.parse:
        return generation
    return msgspec.structs.replace(generation, parse=parse)


def check_parse(parse: Parse, stop: StopReason, form: Form | None) -> Parse:
    """Return a parse with `incomplete_form` or `form_violated` where that is so, else as it is.

    Reasoning and calls have no form: only the final text is looked at.
    """
    final = parse.text("final")
    if form is None or final is None:
        return parse
    if stop is StopReason.MAX_TOKENS:
        return _with_problem(parse, INCOMPLETE)
    if stop is StopReason.STOP_TOKEN and parse.well_formed and not has_form(final, form):
        return _with_problem(parse, VIOLATED)
    return parse


def has_form(text: str, form: Form) -> bool:
    """Whether a text has a form, as far as that can be told without the model's constraint.

    Expressions and grammars have a syntax of their own, and what their constraint let through has
    the form.
    """
    if form.kind == "choice":
        return text.strip() in {choice.strip() for choice in form.value}
    if not form.is_json:
        return True
    # imported late: most batches have no schema
    from mh_batch.engine.constraint.validation.answers import find_error

    fault = find_error({"type": "object"} if form.kind == "json_object" else form.value, text)
    return fault is None or not fault.certain


def _with_problem(parse: Parse, problem: str) -> Parse:
    if problem in parse.problems:
        return parse
    problems = (*parse.problems, problem)
    return msgspec.structs.replace(parse, well_formed=False, problems=problems)
