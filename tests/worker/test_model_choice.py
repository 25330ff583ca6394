"""A model is named by what the database has for it, whatever was typed and configured."""

from pathlib import Path

import pytest

from mh_batch.jobs.errors import InputError
from mh_batch.worker.config import Config
from mh_batch.worker.model_choice import default_model, full_name


def test_a_folder_is_known_by_its_full_path_and_so_is_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("base", "adapters/a+b"):
        (tmp_path / folder).mkdir(parents=True)
    base, adapter = tmp_path / "base", tmp_path / "adapters" / "a+b"
    assert full_name("base") == full_name(".//base") == str(base)
    assert full_name("base", "adapters/a+b/") == f"{base}//{adapter}"
    assert full_name("base//adapters/a+b") == f"{base}//{adapter}"
    assert full_name("demo", "adapters//a+b") == f"demo//{adapter}"
    assert full_name(f"demo//{adapter}") == f"demo//{adapter}"
    # what is not there yet keeps its name, as a model does
    assert full_name("demo", "later") == "demo//later"
    assert full_name("someone/a-model//later") == "someone/a-model//later"


def test_an_adapter_is_for_one_model() -> None:
    with pytest.raises(InputError, match="--adapter: for which model"):
        full_name(None, "night1")
    with pytest.raises(InputError, match="demo//one has one already, behind its //"):
        full_name("demo//one", "two")


def test_the_configured_adapter_goes_with_the_configured_model() -> None:
    config = Config(model="demo", adapter="night1")
    assert default_model(config, None, None) == "demo//night1"
    assert default_model(config, None, "night2") == "demo//night2"
    assert default_model(config, "other/model", None) == "other/model"
    assert default_model(config, "", None) == "demo//night1"
    assert default_model(Config(), None, None) is None
