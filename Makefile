# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`. Each does all set-up itself.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test clean

demo: $(READY)
	$(VENV)/bin/spikescope demo $(ARGS)

test: $(READY)
	./check

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build runs .mypy_cache .ruff_cache
