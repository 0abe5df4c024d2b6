# make quick   set up, run the default matrix on the CPU, write reports/quick/README.md
# make test    set up, then every check: ruff, mypy --strict, the floors of the import graph, pytest
# make test-fast   the tests that train no task, under two minutes;  make cov: their coverage
# make fmt, lint, typecheck   format; every static check; mypy alone
# make test-libraries   tests on peft, accelerate, timm, transformers, ... (the extra `libraries`, installed first)
# make test-ray   tests on a real Ray of three nodes on this machine (the extra `ray`, installed first)
# make check-all   the conformance battery of every task and method (nmbench check all)
# make wheel   build the wheel, compare it with git, try it in a clean environment
# make docs    build the documentation site into site/
# make bench   the speed benchmarks (their figures are in the README)
# make gpu     on a machine with a GPU: its tests and benchmarks, within nine minutes, into results/kernels/<gpu>/;
#              without an installation: PYTHON=python3 make gpu
# make constraints   write constraints.txt anew from the extras in setup.cfg; with UPGRADE=1 take the newest versions
# make clean   remove the environment and what was built (never results/, reports/ or data/)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What a run sees is what the scheduler gives it; this is for the tests and the benchmarks.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: quick test test-fast test-libraries test-ray cov fmt lint typecheck check-all docs wheel bench gpu constraints clean

# fairseq's own pins are refused by current pip, so it comes without them; setup.cfg lists what it needs. It is built from
# source (45 s, needs g++ and Python's headers): where that fails, everything but the translation task still works.
define INSTALL_FAIRSEQ
	@$(BIN)/pip install -q --no-deps -c constraints.txt fairseq==0.12.2 \
	|| echo "fairseq could not be built (it needs g++ and Python's headers): the translation task will be unavailable" >&2
endef

# A stamp is written only after pip succeeded, and is older than these files when what it installed is out of date.
$(VENV)/.user: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[all,detection-lite]'
	$(INSTALL_FAIRSEQ)
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/pip install -q -c constraints.txt -e '.[all,detection-lite,dev]'
	touch $@

# The report is written even when a cell failed, and the failure is still the exit status.
quick: $(VENV)/.user
	@status=0; $(BIN)/nmbench run quick --device cpu || status=$$?; \
	if [ $$status -le 1 ]; then $(BIN)/nmbench report quick || status=$$?; fi; \
	exit $$status

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy names a package by its folder, and tasks/ is installed as nmbench_tasks: it is shown a link of that name.
typecheck: $(VENV)/.dev
	mkdir -p .mypy_cache/src && ln -sfn ../../tasks .mypy_cache/src/nmbench_tasks
	MYPYPATH=.mypy_cache/src $(BIN)/mypy -p nmbench -p nmbench_tasks

lint: typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# No training of tasks, no batteries, no documentation blocks: what is wanted at every save.
FAST := -m "not slow" --ignore=tests/docs --ignore=tests/gpu

test-fast: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(FAST)

cov: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(FAST) --cov=nmbench --cov=nmbench_tasks --cov-report=term-missing:skip-covered

# `make test` skips what is not installed, and these are large.
test-libraries: $(VENV)/.dev
	$(BIN)/pip install -q -c constraints.txt -e '.[libraries]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -rs tests/sparsity/test_libraries.py tests/sparsity/test_tracing.py
	$(BIN)/python tests/campaign/models.py

# `make test` skips what is not installed; a Ray is 240 MB, and these take minutes. Where none can be started: skipped.
test-ray: $(VENV)/.dev
	$(BIN)/pip install -q -c constraints.txt -e '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -rs tests/engines/test_ray.py

# Kept apart from `make test`: it trains every task several times over.
check-all: $(VENV)/.user
	OMP_NUM_THREADS=1 $(BIN)/nmbench check all --workers 2

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: $(VENV)/.dev
	$(BIN)/python tools/try_wheel.py

bench: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -o addopts= -q
	$(BIN)/python benchmarks/training_overhead.py --model quick --steps 300
	$(BIN)/python benchmarks/training_overhead.py --model resnet18 --steps 60
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/flow_overhead.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/detection_overhead.py

# Where the environment is not set up, $(PYTHON) has to have torch and triton: nothing is installed here.
gpu:
	@if test -x $(BIN)/python && test -z "$(filter command line environment,$(origin PYTHON))"; \
	then exec $(BIN)/python benchmarks/gpu.py $(GPU_OPTIONS); \
	else exec $(PYTHON) benchmarks/gpu.py $(GPU_OPTIONS); fi

constraints: $(VENV)/.dev
	$(BIN)/python tools/constraints.py $(if $(UPGRADE),--upgrade)

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache
