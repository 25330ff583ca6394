"""Renders the templates of the pages; every text is escaped, control characters too."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mh_batch.worker.output.timings import moment
from mh_batch.worker.text.escape import escape_controls
from mh_batch.worker.text.format import (
    format_count,
    format_number,
    format_percent,
    format_rescued,
    format_seconds,
)


def render(template: str, **values: object) -> str:
    """Return a page as HTML from the template with this name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.filters.update(
        number=format_number,
        seconds=format_seconds,
        moment=moment,
        count=format_count,
        percent=format_percent,
        with_rescued=format_rescued,
    )
    return environment.get_template(template).render(values) + "\n"


def _escaped(value: object) -> object:
    """Escape control characters in what the template writes; our own markup stays as it is."""
    return value if isinstance(value, Markup) else escape_controls(str(value).replace("\r\n", "\n"))
