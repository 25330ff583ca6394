# Two commands matter to a newcomer: `make demo` and `make test`. Both set themselves up.
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo
EXAMPLE := engine/demo/example.jsonl

.PHONY: demo test check coverage soak bench dist clean

demo: $(VENV)/.installed
	@rm -rf $(DEMO) && mkdir $(DEMO)
	$(BIN)/mh-batch run $(EXAMPLE) --db $(DEMO)/mh-batch.db --model demo -o $(DEMO)/results.jsonl
	@echo
	$(BIN)/mh-batch status --db $(DEMO)/mh-batch.db
	@echo
	$(BIN)/mh-batch query --db $(DEMO)/mh-batch.db \
	  "select custom_id, status, final, tokens, round(tokens_per_second) as tok_s from results"

# two at a time: most tests wait for a process of their own
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# type checkers cannot follow an editable install's package map: show them the same tree by links
	@mkdir -p $(VENV)/typed/mh_batch
	@for part in worker engine jobs store; do ln -sfn ../../../$$part $(VENV)/typed/mh_batch/$$part; done
	@for file in __init__.py py.typed; do ln -sfn ../../../worker/package/$$file $(VENV)/typed/mh_batch/$$file; done
	@# from tests/, since at the root worker/ would be taken for tests/worker/
	cd tests && MYPYPATH=../$(VENV)/typed ../$(BIN)/mypy --config-file ../pyproject.toml \
	  --cache-dir ../.mypy_cache --explicit-package-bases ../$(VENV)/typed .

# of the tests' own process only: a model process that is measured too stops answering,
# so what runs in commands and in the model process counts as not run
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term-missing:skip-covered

# drains with many kills (five minutes on two idle cores), then long and random ones; prints them
soak: $(VENV)/.installed-dev
	KILLS=$(KILLS) $(BIN)/python -m pytest -m slow -s tests/soak tests/worker/draining/test_long_drain.py \
	  tests/engine/test_forms_at_length.py tests/worker/bench

bench: $(VENV)/.installed
	@mkdir -p tests/bench
	$(BIN)/mh-batch bench --model demo --note tests/bench/README.md

# the wheel is tried where nothing of the repository can be imported
dist: $(VENV)/.installed-dev
	rm -rf build dist *.egg-info
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m venv build/clean
	build/clean/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd build && clean/bin/mh-batch --version && clean/bin/mh-batch run ../$(EXAMPLE) --model demo -o results.jsonl

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .coverage

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(call install,.[dev])
	@touch $@ $(VENV)/.installed

$(VENV)/bin/python:
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --python '>=3.11' $(VENV); exit; fi; \
	for py in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$py -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    exec $$py -m venv $(VENV); \
	  fi; \
	done; \
	echo "mh-batch needs uv, or Python 3.11 or newer: install one of them and run make again"; exit 1

install = @if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(BIN)/python -e '$(1)'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '$(1)'; fi
