"""Templates: what they make of a row, and what is wrong with a row or a template."""

import json
from pathlib import Path

import pytest

from helpers.landed import Landed, land
from mh_batch.jobs.errors import BadLines, InputError
from mh_batch.worker.submission.tables.options import RowOptions

ROW = {"id": 7, "text": "Hallo", "to": "English", "words": ["a", "ü"], "nothing": None, "n_shot": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    return path


def land_template(file: Path, text: str, name: str = "t.jinja") -> list[Landed]:
    template = file.parent / name
    template.write_text(text)
    return land(file, template=template)


def test_a_prompt_has_the_columns_and_what_it_does_not_use_is_metadata(file: Path) -> None:
    (job,) = land(file, prompt="To {{to}}: {{ text }}")
    assert job.asked == [("user", "To English: Hallo")]
    assert job.metadata == {"id": 7, "words": ["a", "ü"], "nothing": None, "n_shot": 2}
    assert job.custom_id == "7"


def test_a_template_may_decide_and_repeat(file: Path) -> None:
    text = (
        "{% if nothing %}{{ nothing }}{% endif %}{% for w in words %}\n- {{ w }}\n{% endfor %}\n"
        "{{ row['text'] }}"
    )
    (job,) = land_template(file, text)
    assert job.prompt == "- a\n- ü\nHallo"


def test_lists_are_printed_as_json_not_as_python(file: Path) -> None:
    (job,) = land(file, prompt="{{ words }}")
    assert job.prompt == '["a","ü"]'


def test_text_in_a_row_is_no_template_and_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"text": "{{ 7 * 7 }} <b> & {% raw %}"}) + "\n")
    (job,) = land(path, prompt="{{text}}")
    assert job.prompt == "{{ 7 * 7 }} <b> & {% raw %}"


def test_a_json_template_makes_a_whole_line(file: Path) -> None:
    text = (
        '{"system": {{ ("Into " + to) | tojson }}, "turns": [{{ text | tojson }}, "Again"],'
        ' "max_tokens": {{ n_shot }}, "topic": "mine"}'
    )
    (job,) = land_template(file, text, "t.json.jinja")
    assert job.asked == [("system", "Into English"), ("user", "Hallo"), ("user", "Again")]
    assert job.settings == {"max_tokens": 2}
    assert job.metadata == {"id": 7, "words": ["a", "ü"], "nothing": None, "topic": "mine"}


def test_a_json_template_may_make_messages(file: Path) -> None:
    text = '{"messages": [{"role": "user", "content": {{ text | tojson }}}]}'
    (job,) = land_template(file, text, "t.json.j2")
    assert job.asked == [("user", "Hallo")]


def test_columns_that_would_be_another_conversation_travel_as_metadata(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    row = {
        "prompt": "old",
        "messages": [{"role": "user", "content": "x"}],
        "q": "new",
        "custom_id": "a",
    }
    path.write_text(json.dumps(row) + "\n")
    (job,) = land(path, prompt="Now: {{q}}")
    assert job.asked == [("user", "Now: new")]
    assert job.metadata == {"prompt": "old", "messages": row["messages"]}
    (job,) = land(path, ("prompt=q", "metadata=custom_id"))
    assert job.metadata == {"prompt": "old", "messages": row["messages"], "custom_id": "a"}
    assert job.custom_id == "line-1"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("{{ txt }}", "txt: no such column; there are id, text, to, words, nothing, n_shot"),
        ("{{ text.x.y }}", "--prompt: 'str object' has no attribute 'x'"),
        ("{{ text }} {{ nothing }}", "nothing: null, where text is to be"),
        ("{{ text + id }}", "--prompt: TypeError: "),
        ("{{ id / 0 }}", "--prompt: ZeroDivisionError: "),
        ("{{ nothing or '' }}", "--prompt: makes an empty prompt"),
        ("{{ text.__class__.__mro__ }}", "--prompt: access to attribute '__class__'"),
        ("{{ words.append(1) }}", "--prompt: "),
    ],
)
def test_a_row_that_a_template_cannot_take_is_named(prompt: str, reason: str, file: Path) -> None:
    with pytest.raises(BadLines) as caught:
        land(file, prompt=prompt)
    assert str(caught.value).startswith(f"in.jsonl:1: {reason}")


def test_a_json_template_that_makes_no_object_is_named(file: Path) -> None:
    with pytest.raises(BadLines, match=r"t\.json\.jinja: makes no JSON object"):
        land_template(file, '{"prompt": "{{ words }}"}', "t.json.jinja")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "{{ text"}, "--prompt: line 1: "),
        ({"prompt": "Translate {text}"}, "--prompt: uses no column"),
        ({"prompt": "{{x}}", "pairs": ["prompt=y"]}, "--map prompt: --prompt makes the prompt"),
        ({"prompt": "{{x}}", "template": Path("t")}, "--prompt and --template: give one"),
        ({"template": Path("none.jinja")}, "--template none.jinja: No such file"),
        ({"pairs": ["prompt"]}, "--map prompt: write it as key=column"),
        ({"pairs": ["promt=x"]}, "promt is no key of a line; did you mean prompt?"),
        ({"pairs": ["prompt=x,prompt=y"]}, "--map: prompt is there twice"),
        ({"seed": 3}, "--seed: is for --sample only"),
    ],
)
def test_options_that_cannot_be_are_refused_before_the_file_is_read(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        RowOptions.parse(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_pairs_may_be_parted_by_commas_and_columns_may_have_them() -> None:
    options = RowOptions.parse(pairs=["prompt=a, b,system=c", "metadata=d,metadata=e"])
    assert options.renamed == (
        *(("prompt", "a, b"), ("system", "c"), ("metadata", "d"), ("metadata", "e")),
    )
