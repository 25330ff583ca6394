"""CSV in: the header names the fields, and an error the line that its row begins on."""

from pathlib import Path

import pytest

from helpers.landed import Landed, land
from mh_batch.jobs.errors import BadLines, InputError
from mh_batch.worker.submission.submission import Rules

ASK = ("prompt=question",)


def land_csv(
    folder: Path, text: str | bytes, name: str = "in.csv", **options: object
) -> list[Landed]:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(content)
    return land(folder / name, options.pop("pairs", ASK), **options)  # type: ignore[arg-type]


def test_a_renamed_column_is_the_prompt_and_the_others_are_metadata(tmp_path: Path) -> None:
    (job,) = land_csv(tmp_path, 'question,answer,note\n"What is 2 + 2?",4,\n')
    assert job.asked == [("user", "What is 2 + 2?")]
    assert (job.number, job.custom_id) == (2, "line-2")
    assert job.metadata == {"answer": "4", "note": ""}


def test_a_cell_may_have_line_ends_quotes_and_delimiters(tmp_path: Path) -> None:
    text = 'question,x\r\n"one\r\ntwo, ""three""",1\r\n"next",2\r\n'
    first, second = land_csv(tmp_path, text)
    assert first.prompt == 'one\r\ntwo, "three"'
    assert (first.number, second.number) == (2, 4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("in.tsv", "question\tx\na, b\t1\n"),
        ("in.csv", "question;x\na, b;1\n"),
        ("in.csv", '\ufeffquestion,x\n"a, b",1\n'),
        ("IN.CSV", 'question,x\n"a, b",1\n\n'),
    ],
    ids=["tabs", "semicolons", "byte order mark", "an empty line"],
)
def test_what_spreadsheets_write_is_read(name: str, text: str, tmp_path: Path) -> None:
    (job,) = land_csv(tmp_path, text, name)
    assert (job.prompt, job.metadata) == ("a, b", {"x": "1"})


def test_a_column_by_the_name_of_a_key_is_that_key(tmp_path: Path) -> None:
    text = (
        "custom_id,prompt,system,max_tokens,stop,n,url\n"
        'a,Hi,Be kind,12,"[""x"", ""y""]",2,\nb,Ho,,,END,,http://x\n'
    )
    first, second = land_csv(tmp_path, text, pairs=())
    assert first.asked == [("system", "Be kind"), ("user", "Hi")]
    assert (first.custom_id, first.n, first.metadata) == ("a", 2, {"url": ""})
    assert first.settings == {"max_tokens": 12, "stop": ["x", "y"]}
    assert second.asked == [("user", "Ho")]
    assert (second.settings, second.metadata) == ({"stop": "END"}, {"url": "http://x"})


def test_a_column_of_turns_is_read_as_json(tmp_path: Path) -> None:
    (job,) = land_csv(tmp_path, 'talk\n"[""a"", ""b""]"\n', pairs=("turns=talk",))
    assert job.asked == [("user", "a"), ("user", "b")]


def test_bad_rows_are_named_by_line_and_column_and_nothing_lands(tmp_path: Path) -> None:
    text = b'question,max_tokens\nfine,5\n,5\none,two,three\nx,many\n\xff,1\n"quo"te,1\nlast,-1\n'
    with pytest.raises(BadLines) as caught:
        land_csv(tmp_path, text)
    named = {line.number: line.reason for line in caught.value.lines}
    assert named[3] == "question: empty"
    assert named[4] == "3 cells, where the header has 2"
    assert named[5].startswith("max_tokens: Expected `int`")
    assert named[6] == "not CSV: not UTF-8: byte 0xff at column 1"
    assert named[7].startswith("not CSV: ")
    assert named[8].startswith("max_tokens: ")
    assert "in.csv:3: question: empty" in str(caught.value)
    skipped = land_csv(tmp_path, text, rules=Rules(skip_bad=True))
    assert [job.prompt for job in skipped] == ["fine"]


def test_an_error_about_a_renamed_key_names_the_column(tmp_path: Path) -> None:
    with pytest.raises(BadLines, match=r"in\.csv:2: talk: Expected `array`"):
        land_csv(tmp_path, "talk\nno list\n", pairs=("turns=talk",))


def test_a_row_beyond_the_limit_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    text = "question\n" + "x" * (2 << 20) + "\nshort\n"
    rules = Rules(skip_bad=True, max_line_mib=1)
    (job,) = land_csv(tmp_path, text, rules=rules)
    assert (job.number, job.prompt) == (3, "short")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty, there is no header"),
        ("question,a\n", "empty, no row holds a job"),
        ("question,question\nx,y\n", "two columns are named 'question'"),
        (b"PK\x03\x04\x00", "a binary file, not CSV"),
        (b"\xff\xfeq\n", "1: not CSV: not UTF-8"),
        ("answer,text\nx,y\n", "question: no such column; there are answer, text"),
    ],
)
def test_a_file_that_cannot_be_such_a_table_is_refused_at_once(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"in\.csv: ?{message}"[:30]) as caught:
        land_csv(tmp_path, text)
    assert message in str(caught.value)


def test_a_table_without_a_conversation_says_which_columns_there_are_and_the_cure(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError) as caught:
        land_csv(tmp_path, "id,question,answer\n1,x,y\n", pairs=())
    assert "there are id, question, answer: --map prompt=question" in str(caught.value)


@pytest.mark.parametrize("column", ["models", "best_of", "parallel", "max-tokens"])
def test_a_column_that_may_not_be_a_key_is_named_with_what_keeps_it(
    column: str, tmp_path: Path
) -> None:
    text = f"question,{column}\nx,2\n"
    with pytest.raises(BadLines, match=rf"in\.csv:2: {column}: ") as caught:
        land_csv(tmp_path, text)
    cure = str(caught.value).partition("--map ")[2].split()[0]
    (job,) = land_csv(tmp_path, text, pairs=(*ASK, cure))
    assert job.metadata == {column: "2"}


def test_a_column_without_a_name_is_metadata_by_its_place(tmp_path: Path) -> None:
    (job,) = land_csv(tmp_path, ",question\n0,x\n")
    assert job.metadata == {"column 1": "0"}


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *[(name, "some text") for name in ("functions", "regex", "think", "reasoning", "format")],
        *[(name, "7") for name in ("user", "audio", "priority", "prediction")],
        *(("metadata", '{"a": 1}'), ("options", '{"A": "x", "B": "y"}'), ("stream", "false")),
        *(("suffix", "er"), ("best_of", "1"), ("logprobs", ""), ("echo", "3")),
    ],
)
def test_a_column_that_only_has_the_name_of_another_tools_parameter_is_data(
    column: str, cell: str, tmp_path: Path
) -> None:
    quoted = cell.replace('"', '""')
    (job,) = land_csv(tmp_path, f'question,{column}\nx,"{quoted}"\n')
    assert job.metadata == {column: cell}
    assert job.settings == {}


def test_columns_with_other_tools_names_of_our_settings_set_them(tmp_path: Path) -> None:
    header = "question,system_prompt,max_new_tokens,sampling_params"
    text = f'{header}\nx,Be kind.,5,"{{""top_k"": 2}}"\n'
    (job,) = land_csv(tmp_path, text)
    assert job.settings == {"max_tokens": 5, "top_k": 2}
    assert job.asked[0] == ("system", "Be kind.")


@pytest.mark.parametrize(("column", "cell"), [("stream", "true"), ("options", '{"num_ctx": 0}')])
def test_a_column_that_is_another_tools_parameter_counts(
    column: str, cell: str, tmp_path: Path
) -> None:
    quoted = cell.replace('"', '""')
    with pytest.raises(BadLines, match=rf"in\.csv:2: {column}"):
        land_csv(tmp_path, f'question,{column}\nx,"{quoted}"\n')
