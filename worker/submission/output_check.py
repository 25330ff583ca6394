"""Whether answers can be what is asked for, found out before anything is queued: forms, schemas
that they are checked by, and calls. No model is needed.
"""

from mh_batch.jobs.answers.forms import AUTO, Output
from mh_batch.jobs.conversation import Tool
from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.jsonl.line_settings import Checks


def check_output(output: Output) -> None:
    """Raise `SettingsError`, with the field, for a form or a schema that no answer can have."""
    form, accept = output.form, output.accept
    schema = None if accept is None else accept.json_schema
    if form is None and schema is None:
        return
    # imported late, as below: llguidance and jsonschema take longer than most files
    from mh_batch.engine.constraint.check import check_form, check_schema

    field = "accept: json_schema"
    try:
        if schema is not None:
            check_schema(schema)
        if form is not None:
            field = output.form_field
            check_form(form)
    except SettingsError as error:
        raise SettingsError(f"{field}: {error}") from None


def check_tool(tool: Tool) -> None:
    """Raise `SettingsError` if calls of a `strict` tool cannot be kept to its parameters."""
    if not tool.function.strict:
        return
    from mh_batch.engine.constraint.check import check_calls

    check_calls([tool], AUTO)


CHECKS = Checks(check_output, check_tool)
"""What is asked of every line."""
