# On a fresh machine with Python >= 3.11: `make demo`, `make test` and `make bench`. Each does all set-up itself.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready

.PHONY: demo test bench damage clean

demo: $(READY)
	$(VENV)/bin/spikescope demo $(ARGS)

test: $(READY)
	./check

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

bench: $(BENCH_READY)
	$(BENCH_VENV)/bin/python -m bench $(ARGS)

$(BENCH_READY): bench/constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint bench/constraints.txt torch
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --requirement bench/constraints.txt
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(BENCH_READY)

damage: $(READY)
	$(VENV)/bin/python tests/sweeps/record_damage.py 10000

matrix: # each supported version of PyTorch and Python; an hour or more, and up to 6 GB at a time
	$(PYTHON) tests/sweeps/matrix.py $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) build runs .mypy_cache .ruff_cache
