"""One name holds a model and its adapter, and comes apart again."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mh_batch.jobs.models.names import ModelName, join_name, split_name

paths = st.builds(
    lambda root, parts: root + "/".join(parts),
    st.sampled_from(["", "/", "./", "~/"]),
    st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1),
)


@given(model=paths, adapter=paths)
@example(model="demo", adapter="adapters/night1")
@example(model="/models/a+b", adapter="/adapters/c+d")
@example(model="someone/a-model", adapter="../2026-12-01 01:30")
def test_a_name_of_a_model_and_an_adapter_comes_apart_into_both(model: str, adapter: str) -> None:
    assert split_name(join_name(model, adapter)) == ModelName(model, adapter)


@given(paths)
def test_the_name_of_a_folder_names_no_adapter(model: str) -> None:
    assert split_name(model) == ModelName(model)


def test_slashes_too_many_in_a_path_make_no_other_name() -> None:
    assert join_name("models/m/", "adapters//night1/") == "models/m//adapters/night1"


def test_a_model_has_one_adapter() -> None:
    with pytest.raises(ValueError, match="names an adapter already"):
        join_name("demo//one", "two")
