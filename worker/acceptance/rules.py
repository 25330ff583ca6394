"""The rules of the setting `accept`, applied to a text."""

import re
from typing import Any

from mh_batch.jobs.answers.accept_rules import AcceptRules


def broken_rule(rules: AcceptRules, text: str) -> str | None:
    """Return which rule `text` breaks, in words for the model; `None` if it keeps all."""
    chars = len(text)
    if rules.min_chars is not None and chars < rules.min_chars:
        return f"it has {chars} characters and must have at least {rules.min_chars}"
    if rules.max_chars is not None and chars > rules.max_chars:
        return f"it has {chars} characters and must have at most {rules.max_chars}"
    if rules.regex is not None:
        found = re.fullmatch if rules.full_match else re.search
        if found(rules.regex, text) is None:
            how = "match" if rules.full_match else "contain a match of"
            return f"it must {how} the regular expression {rules.regex}"
    for pattern in rules.forbidden:
        if re.search(pattern, text) is not None:
            return f"it must not contain a match of the regular expression {pattern}"
    return None if rules.json_schema is None else schema_violation(rules.json_schema, text)


def schema_violation(schema: dict[str, Any] | bool, text: str) -> str | None:
    """Return why `text` is not JSON that is valid against `schema`; `None` if it is.

    What cannot be told is a reason too: nothing is accepted unseen.
    """
    # imported late: most rules have no schema
    from mh_batch.engine.constraint.validation.answers import find_error

    fault = find_error(schema, text)
    return fault and f"JSON schema: {fault.reason}"
