"""Whether forms and calls can be kept to, asked before anything is queued; no model is needed."""

from mh_batch.jobs.answers.forms import AUTO, Output
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.jsonl.line_settings import Checks


def check_form(output: Output) -> None:
    """Raise `SettingsError`, with the field, for a form that cannot be kept to."""
    form = output.form
    if form is None:
        return
    # imported late, as below: llguidance and jsonschema take longer than most files
    from mh_batch.engine.constraint.check import check_form

    try:
        check_form(form)
    except SettingsError as error:
        raise SettingsError(f"{output.form_field}: {error}") from None


def check_tool(tool: Tool) -> None:
    """Raise `SettingsError` if calls of a `strict` tool cannot be kept to its parameters."""
    if not tool.function.strict:
        return
    from mh_batch.engine.constraint.check import check_calls

    check_calls([tool], AUTO)


CHECKS = Checks(check_form, check_tool)
"""What is asked of every line."""
