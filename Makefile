# On a fresh machine with Python >= 3.11: `make demo`, `make test` and `make bench`. Each does all set-up itself.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

# Of what is installed a third is ever imported, and compiled when it first is: to compile all of it takes a minute. But
# torch and what it brings are compiled while pip, which has one process, installs the rest.
export PYTHONDONTWRITEBYTECODE :=
COMPILED := $(patsubst %,$(VENV)/lib/python3*/site-packages/%,torch sympy mpmath networkx)

BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready

PROGRAMS_VENV := .venv-programs
PROGRAMS_READY := $(PROGRAMS_VENV)/.ready
DOCS_VENV := .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready
DIST_VENV := .venv-dist
DIST_READY := $(DIST_VENV)/.ready
INTEROP_VENV := .venv-interop
INTEROP_READY := $(INTEROP_VENV)/.ready
NEIGHBOURS_VENV := .venv-neighbours
NEIGHBOURS_READY := $(NEIGHBOURS_VENV)/.ready
AGES := 0.0.0.0.12 0.0.0.0.14 2.0.0

.PHONY: browser demo test test-all bench damage dist docs fuzz gpu kills interop matrix models neighbours networks programs release
.PHONY: resumes registers triton clean

demo: $(READY)
	$(VENV)/bin/spikescope demo $(ARGS)

test: $(READY)
	./check

# Every sweep whole, where `make test` takes a sample, and the coverage: an hour or more, and 8 GB.
test-all: $(READY)
	SPIKESCOPE_TEST_ALL=1 ./check --cov --cov-report=term:skip-covered --cov-fail-under=95 $(ARGS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	-$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check 'pip>=26' # older ones resolve for a minute
	$(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(VENV)/bin/python -m compileall -qq -x '/(testing|tests)/' $(COMPILED) & \
	  $(VENV)/bin/pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	  status=$$?; wait; exit $$status
	touch $(READY)

# On a machine with a GPU, which needs no network: PART=tests, rows, step or ranks runs one of the parts, the last on all
# GPUs of the machine. Wheels of SpikingJelly and of what it needs may lie in wheels/; without them the table says so.
gpu:
	PYTHONPATH=src:. $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,$(PYTHON)) -m bench.gpu $(if $(PART),--part $(PART)) $(ARGS)

# Reads in what Triton compiles for two GPUs, none of which need be here, whether it keeps PyTorch's bits.
TRITONS ?= 3.6.0 3.9.0
triton: $(READY)
	for version in $(TRITONS); do \
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --target build/triton-$$version triton==$$version && \
	  TRITON_CACHE_DIR=build/triton-$$version/cache PYTHONPATH=build/triton-$$version:src \
	    $(VENV)/bin/python tests/sweeps/triton_ptx.py || exit 1; \
	done

# The documentation site, in build/site: warnings are errors, and links are checked.
docs: $(DOCS_READY)
	$(DOCS_VENV)/bin/python -m website $(ARGS)

$(DOCS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS_READY)

# Wheel and sdist in build/dist, each tried in a clean environment of every Python that is supported: PYTHONS="3.11 3.12".
dist: $(DIST_READY)
	$(DIST_VENV)/bin/python -m release dist $(if $(PYTHONS),--python $(PYTHONS))

# Says what speaks against a release: version, changelog, citation, documents and matrix must agree.
release: dist
	$(DIST_VENV)/bin/python -m release check

$(DIST_READY): constraints.txt
	$(PYTHON) -m venv $(DIST_VENV)
	$(DIST_VENV)/bin/pip install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0
	touch $(DIST_READY)

# Registers and spilled bytes of the kernels for two GPUs, none of which need be here.
registers: $(READY)
	TRITON_INTERPRET=0 TRITON_CACHE_DIR=build/triton-registers PYTHONPATH=src:. \
	  $(VENV)/bin/python tests/sweeps/triton_registers.py $(ARGS)

# Kernel against eager loop on random configurations: ARGS="N --seed S".
fuzz: $(READY)
	$(VENV)/bin/python tests/sweeps/fuzz_backends.py $(ARGS)

# Random networks, plainly and compiled, copied, checkpointed, watched, recorded, exported: ARGS="N --seed S --way WAY ...".
networks: $(READY)
	$(VENV)/bin/python tests/sweeps/fuzz_networks.py $(ARGS)

# Programs of published kinds beside the real package of their age: ARGS="NAME ... --rounds N --store".
programs: $(PROGRAMS_READY)
	PYTHONPATH=src $(PROGRAMS_VENV)/bin/python tests/sweeps/programs.py $(ARGS)

$(PROGRAMS_READY): constraints.txt
	$(PYTHON) -m venv $(PROGRAMS_VENV)
	$(PROGRAMS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  torch==2.13.0 numpy scipy tqdm matplotlib tensorboard requests loguru
	for age in $(AGES); do \
	  $(PROGRAMS_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	    --target $(PROGRAMS_VENV)/ages/$$age spikingjelly==$$age || exit 1; \
	done
	touch $(PROGRAMS_READY)

# Chromium for the tests of the page, from the packages of Debian or Ubuntu.
browser:
	apt-get update --quiet && apt-get install --yes --no-install-recommends chromium fonts-dejavu-core

# What is exported, read by programs whose versions do not go together with those of the others; networks of other
# libraries, watched.
interop: $(INTEROP_READY)
	PYTHONPATH=src $(INTEROP_VENV)/bin/python -m pytest tests/recording -k spikeinterface $(ARGS)
	PYTHONPATH=src $(INTEROP_VENV)/bin/python -m pytest tests/monitor/foreign tests/exchange/test_snntorch.py $(ARGS)
	PYTHONPATH=src $(INTEROP_VENV)/bin/python tests/sweeps/energy_rivals.py

$(INTEROP_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(INTEROP_VENV)
	grep -v -e ^zarr= -e ^numcodecs= constraints.txt > $(INTEROP_VENV)/constraints.txt
	$(INTEROP_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint $(INTEROP_VENV)/constraints.txt \
	  torch==2.13.0 numpy spikeinterface pytest hypothesis neurobench loguru
	$(INTEROP_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps spikingjelly==2.0.0 \
	  $$(grep -e ^snntorch= -e ^norse= -e ^sinabs= -e ^nir -e ^pbr= bench/constraints.txt)
	touch $(INTEROP_READY)

# The callbacks in the training loops of other libraries, with the real packages.
neighbours: $(NEIGHBOURS_READY)
	PYTHONPATH=src $(NEIGHBOURS_VENV)/bin/python -m pytest tests/neighbours src/spikescope/neighbours $(ARGS)
	PYTHONPATH=src $(NEIGHBOURS_VENV)/bin/python -m pytest tests/test_tutorials.py -k neighbours $(ARGS)

$(NEIGHBOURS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(NEIGHBOURS_VENV)
	$(NEIGHBOURS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(NEIGHBOURS_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  numpy lightning accelerate skorch scikit-learn matplotlib rich safetensors pytest hypothesis triton
	touch $(NEIGHBOURS_READY)

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
	$(VENV)/bin/python tests/sweeps/recording_damage.py 10000

# Writers of recordings killed at random moments.
kills: $(READY)
	$(VENV)/bin/python tests/sweeps/record_kills.py 1000

# Trainings killed at random moments and taken up again: ARGS="KILLS SEED".
resumes: $(READY)
	$(VENV)/bin/python tests/sweeps/kill_training.py $(ARGS)

matrix: # each supported version of PyTorch and Python; an hour or more, and up to 6 GB at a time
	$(PYTHON) tests/sweeps/matrix.py $(ARGS)

# All models in their full size, compiled too: half an hour and 8 GB.
models: $(READY)
	SPIKESCOPE_TEST_ALL=1 $(VENV)/bin/pytest tests/models $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(PROGRAMS_VENV) $(INTEROP_VENV) $(DOCS_VENV) $(DIST_VENV) $(NEIGHBOURS_VENV) \
	  build runs .mypy_cache .ruff_cache
