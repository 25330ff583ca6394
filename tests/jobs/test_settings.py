"""Settings: flat names, groups underneath, later wins."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mh_batch.jobs.errors import SettingsError
from mh_batch.jobs.settings import GROUPS, NAMES, Settings, apply, profile_values


def test_every_field_of_every_group_can_be_set_by_its_flat_name() -> None:
    settings = Settings()
    for name, group in GROUPS.items():
        value = getattr(getattr(settings, group), name)
        assert apply(settings, {name: value}) == settings
    assert frozenset(GROUPS) | {"seed"} == NAMES


def test_the_values_of_a_line_are_laid_over_those_of_the_batch() -> None:
    batch = apply(Settings(), {"max_tokens": 100, "temperature": 0.5})
    line = apply(batch, {"max_tokens": 7})
    assert (line.sampling.max_tokens, line.sampling.temperature) == (7, 0.5)


def test_text_from_a_command_line_becomes_the_fields_type() -> None:
    settings = apply(
        Settings(),
        {"max_tokens": "48", "temperature": "0", "max_context_tokens": "none", "seed": "5"},
        text=True,
    )
    assert settings.sampling.max_tokens == 48
    assert settings.sampling.temperature == 0.0
    assert settings.context.max_context_tokens is None
    assert settings.seed == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": 1}, "unknown setting temprature; did you mean temperature?"),
        ({"zzz": 1}, "unknown setting zzz; known: "),
        ({"kv_bits": 4}, "kv_bits: not supported: mlx-lm cannot quantise .*; max_kv_size bounds"),
        ({"temperature": -1}, "temperature: .*>= 0.0, got -1"),
        ({"max_tokens": 0}, "max_tokens: .*>= 1, got 0"),
        ({"max_tokens": True}, "max_tokens: .*got True"),
        ({"reasoning_effort": "huge"}, "reasoning_effort: one of low, medium, high, got 'huge'"),
        ({"loop_detection": 1}, "loop_detection: one of off, cheap, full, got 1"),
        ({"prefix_cache_bytes": 1}, "unknown setting prefix_cache_bytes; it is the worker's: "),
        ({"parallel": 8}, "unknown setting parallel; it is the worker's: `work --parallel`"),
        ({"seed": -1}, "seed: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_cure(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        apply(Settings(), values)


@pytest.mark.parametrize(("name", "most"), [("repetition_window", 131_072), ("prefill_step", 8192)])
def test_a_setting_that_takes_memory_is_bounded_by_what_it_is_good_for(
    name: str, most: int
) -> None:
    group = GROUPS[name]
    assert getattr(getattr(apply(Settings(), {name: most}), group), name) == most
    with pytest.raises(SettingsError, match=rf"^{name}: at most {most:,}, got {most + 1:,}$"):
        apply(Settings(), {name: most + 1})
    with pytest.raises(SettingsError, match=f"^{name}: at most"):
        apply(Settings(), {name: str(most + 1)}, text=True)


def test_a_bias_is_for_no_more_tokens_than_a_vocabulary_has() -> None:
    bias = {str(token): 1.0 for token in range(262_144)}
    assert len(apply(Settings(), {"logit_bias": bias}).sampling.logit_bias) == 262_144
    with pytest.raises(SettingsError, match=r"^logit_bias: at most 262,144 tokens, got 262,145$"):
        apply(Settings(), {"logit_bias": bias | {"999999": 1.0}})


def test_what_an_earlier_version_stored_is_still_read() -> None:
    stored = b'{"sampling": {"repetition_window": 300000000}, "context": {"prefill_step": 65536}}'
    settings = msgspec.json.decode(stored, type=Settings)
    assert settings.sampling.repetition_window == 300_000_000
    assert apply(settings, {"temperature": 0}).context.prefill_step == 65_536


def test_a_value_that_is_long_is_not_told_in_full() -> None:
    with pytest.raises(SettingsError) as caught:
        apply(Settings(), {"stop": ["x" * 100_000]})
    assert len(str(caught.value)) < 300


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="quality, steady"):
        profile_values("fast")


def test_the_steady_profile_is_short_in_answers_and_in_history() -> None:
    steady = apply(Settings(), profile_values("steady"))
    assert (steady.sampling.max_tokens, steady.context.history_tokens) == (1024, 4096)
    assert Settings().context.history_tokens is None


@given(st.floats(0, 2), st.integers(1, 10**6), st.sampled_from(["low", "medium", "high"]))
def test_settings_survive_their_way_through_the_database(
    temperature: float, max_tokens: int, effort: str
) -> None:
    settings = apply(
        Settings(),
        {"temperature": temperature, "max_tokens": max_tokens, "reasoning_effort": effort},
    )
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


def test_variables_of_chat_templates_keep_the_types_that_they_have_as_json() -> None:
    typed = '{"enable_thinking": false, "depth": 1, "share": 0.5, "mode": "1", "none": null}'
    applied = apply(Settings(), {"chat_template_kwargs": typed}, text=True)
    variables = applied.prompting.chat_template_kwargs
    assert msgspec.json.encode(variables) == typed.replace(": ", ":").replace(", ", ",").encode()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"messages": 1}, "chat_template_kwargs: messages is set by what renders a prompt"),
        ({"tokenize": True}, "tokenize is set by what renders a prompt"),
        ({"x": [1]}, "got `array`"),
        ({"bad name": 1}, "matching regex"),
        ({f"v{n}": 0 for n in range(65)}, "at most 64 variables, got 65"),
        ("no", "Expected `object`"),
    ],
)
def test_variables_that_no_template_may_have_are_refused(variables: object, told: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        apply(Settings(), {"chat_template_kwargs": variables})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("max_new_tokens", "unknown setting max_new_tokens; write max_tokens"),
        ("guided_regex", 'not supported: write structured_outputs={"regex": ...}'),
        ("min_tokens", "not supported: accept has min_chars"),
    ],
)
def test_a_setting_by_the_name_of_another_tool_is_told_what_to_write(name: str, told: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(told)):
        apply(Settings(), {name: 1})
