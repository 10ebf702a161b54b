# Bakeoff's way in: `make help` lists the targets.

ARGS ?=#    words for the command that a target runs: make train ARGS="model=mlp seed=1"
EXTRAS ?=#  optional dependencies to install as well: make install EXTRAS="export"
PYTHON ?=#  the Python to make .venv with; the first suitable one on the PATH unless given
SWEEP ?=#   a file of sweeps/ (make sweep), or the name of a study (make dashboard)
TESTS ?= tests
TORCH ?=#   another build of torch than that of the lock: make install TORCH=cpu (or cu128, ...)
JOBS ?=#    tests at the same time, each file in one process: 2 (make test) or 3 (make test-all)

PY := .venv/bin/python
# A working uv on the PATH, else the one that `.venv/.made` puts into .venv.
UV = $(shell uv --version >/dev/null 2>&1 && echo uv || echo .venv/bin/uv)
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --no-header

# One thread a process: two that wait for each other on busy cores take ten times as long as one.
PYTEST = OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: compare select scaling export push verify weights help install train sweep test test-all test-docs \
        test-oldest check ui dashboard lock bench gpu

# A setting of a command that is given to make itself, as in `make train model=mlp`, would be lost.
LOST := $(foreach name,$(sort $(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(name)))
LOST := $(filter $(addsuffix %,a b c d e f g h i j k l m n o p q r s t u v w x y z),$(LOST))
ifneq ($(LOST),)
    $(error settings of a command go into ARGS: ARGS="$(foreach name,$(LOST),$(name)=$($(name)))")
endif

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

install: .venv/.core $(EXTRAS:%=.venv/.extra-%)  ## set up .venv (EXTRAS="export" adds, TORCH=cpu is small)

train: install  ## train one model (ARGS="model=lstm data=fashion_mnist seed=1")
	@$(PY) -m src.train $(or $(ARGS),model=cnn)

sweep: install  ## race architectures and settings (SWEEP=fashion ARGS="budget.trials=50")
	@$(PY) -m src.sweep $(if $(SWEEP),--config-name $(SWEEP)) $(ARGS)

# The quick tests compute all the time; of all tests many wait, for a clock or for what they killed,
# and a third process uses what two leave of two cores.
test: JOBS := $(or $(JOBS),2)
test-all: JOBS := $(or $(JOBS),3)

test: install  ## run the tests that are quick (TESTS=tests/data runs some)
	@$(PYTEST) -m "not slow" $(TESTS) $(ARGS)

test-all: install  ## run every test but the commands of the pages (those: make test-docs)
	@$(PYTEST) --ignore=tests/docs/test_commands.py $(TESTS) $(ARGS)

# One page at a time: they share a folder.
test-docs: install  ## run every command of the pages as it is written (ARGS="-k tutorial" some)
	@$(PY) -m pytest tests/docs tests/test_docs.py $(ARGS)

test-oldest: .venv/.made  ## run the quick tests with the oldest versions that pyproject.toml allows
	@$(AS_PIP); $(UV) venv --quiet --clear --python $(PY) .venv-oldest && \
	    $(UV) pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
	        -r pyproject.toml --extra dev $(EXTRAS:%=--extra %)
	@OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest --numprocesses $(or $(JOBS),2) \
	    --dist loadfile --no-loadscope-reorder -m "not slow" $(TESTS) $(ARGS)

check: install  ## check format, lint, types, who imports whom, and what is declared
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/deptry .

compare: install  ## recommend a candidate, with its uncertainty (ARGS="sweep=NAME")
	@$(PY) -m src.compare $(ARGS)

select: install  ## make the verdict's choice the champion (ARGS="sweep=NAME refit=true")
	@$(PY) -m src.select $(ARGS)

scaling: install  ## forecast what more pictures would bring (ARGS="run=champion goal=0.95")
	@$(PY) -m src.scaling $(ARGS)

export: install .venv/.extra-export  ## make a run faster: ONNX, int8, torch.export (ARGS="run=ID")
	@$(PY) -m src.export $(ARGS)

push: install  ## publish a model: a folder, or the Hugging Face hub (ARGS="to=FOLDER")
	@$(PY) -m src.push $(ARGS)

verify: install  ## check that runs, studies and stores are what was written (ARGS="run=ID repair=true")
	@$(PY) -m src.verify $(ARGS)

weights: install  ## list the pretrained networks that load here, or fetch some (ARGS="fetch=suggested")
	@$(PY) -m src.weights $(ARGS)

ui: install  ## show the tracked runs in a browser (ARGS="port=5001")
	@$(PY) -m src.tracking.ui $(ARGS)

dashboard: install .venv/.extra-dashboard  ## show a sweep's study in Optuna's pages (SWEEP=fashion)
	@$(PY) -m src.sweeps.dashboard $(if $(SWEEP),study=$(SWEEP)) $(ARGS)

bench: install  ## repeat the measurements (BENCH="start epoch" repeats some)
	@$(PY) -m benchmarks $(BENCH) $(ARGS)

gpu: install  ## check what needs a GPU (BAKEOFF_GPU_CHECKS=epoch,plans checks some)
	@$(PY) -m benchmarks gpu $(ARGS)

lock: .venv/.made  ## pin the dependencies anew (ARGS=--upgrade takes newer ones)
	@$(COMPILE) pyproject.toml --extra dev --output-file requirements.lock $(ARGS)
	@set -e; for extra in $$($(PY) -c "$$LIST_EXTRAS"); do \
	    $(PY) -c "$$LIST_EXTRAS" "$$extra" | \
	    $(COMPILE) - --constraint requirements.lock --output-file "requirements-$$extra.lock" $(ARGS); \
	done

# The optional dependencies that are no part of requirements.lock, or those of a named one.
define LIST_EXTRAS
import sys, tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print(*(extras[sys.argv[1]] if sys.argv[1:] else extras.keys() - {"dev"}), sep="\n")
endef
export LIST_EXTRAS

# Stamps: each is newer than what it was made from, so a second `make` does nothing.

.venv/.core: requirements.lock .venv/.made
	@[ -z "$(TORCH)" ] || echo "$(TORCH)" > .venv/.torch
	@if [ -e .venv/.torch ]; then \
	    echo "installing the versions of requirements.lock, with torch for $$(cat .venv/.torch)" \
	        "(for cpu some 2 GB in .venv)"; \
	else \
	    echo "installing what requirements.lock pins: on Linux some 6 GB in .venv, of which 4 are for" \
	        "GPUs of NVIDIA (make install TORCH=cpu leaves those out)"; \
	fi
	@$(AS_PIP); $(call INSTALL,--extra dev -r pyproject.toml,-r requirements.lock)
	@touch $@
	@echo "installed; commands are typed after: source .venv/bin/activate"

.venv/.extra-%: requirements-%.lock .venv/.core
	@echo "installing what $< pins"
	@$(AS_PIP); $(call INSTALL,--extra $* -r pyproject.toml,-r requirements.lock -r $<)
	@touch $@

# Another build of torch than the one that is there is installed over it.
ifneq ($(filter-out $(shell cat .venv/.torch 2>/dev/null),$(TORCH)),)
.venv/.core: FORCE
FORCE: ;
endif

# $(call INSTALL,DECLARED,LOCKED): what the lock files pin, checked by their hashes. Another build of
# torch has other hashes, and is to be had from PyTorch's own index alone: then the versions are
# those of the lock, and what is declared says which of them are needed.
INSTALL = if [ -e .venv/.torch ]; then \
	    awk '/^[a-z0-9]/ { sub(/ *\\$$/, ""); print }' requirements*.lock | sort -u > .venv/versions.txt; \
	    $(UV) pip install --python $(PY) --torch-backend "$$(cat .venv/.torch)" \
	        --constraint .venv/versions.txt $(1) || { \
	        echo "torch for $$(cat .venv/.torch) is not to be had here: it comes from PyTorch's own index" \
	            "of packages, which this machine must reach. The build of the lock comes from yours:" \
	            "rm .venv/.torch; make install" >&2; exit 1; }; \
	else \
	    $(UV) pip install --python $(PY) --require-hashes $(2); \
	fi

# A uv that came through pip asks the package index that pip is set up to ask.
AS_PIP = [ $(UV) = uv ] || \
    { index="$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null)}"; \
      [ -z "$$index" ] || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; }

.venv/.made:
	@found=; for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found="$$python"; break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Bakeoff needs Python 3.11 or newer, which" \
	        "$(if $(PYTHON),$(PYTHON) is not,none of python3.13 python3.12 python3.11 python3 is)." \
	        "Install it, or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	fi; \
	if [ $(UV) = uv ]; then \
	    uv venv --quiet --allow-existing --python "$$found" .venv; \
	else \
	    "$$found" -m venv .venv || { \
	        echo "$$found cannot make a virtual environment: install its venv module" \
	            "(python3-venv on Debian and Ubuntu), or uv." >&2; \
	        exit 1; \
	    }; \
	    awk '/^[a-z0-9]/ { wanted = /^uv==/ } wanted' requirements.lock > .venv/uv.txt && \
	    $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
	fi
	@touch $@
