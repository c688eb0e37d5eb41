# Quickstudy's commands; `make help` lists them. A fresh machine needs make, gcc and Python 3.11 or 3.12 with its headers.
VENV ?= .venv
IMAGE ?= quickstudy
# What builds and runs the image: docker, podman, or buildah (as root)
ENGINE ?= docker
# The first interpreter that fits (numpy 1.26 has no wheels for 3.13); another one: make train PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
# Extra arguments for the command behind a target: make train ARGS="--trainer.max_steps 100"
ARGS ?=

RUN := $(VENV)/bin/python
TRAIN_READY := $(VENV)/.train-ready
DEV_READY := $(VENV)/.dev-ready
BENCH_READY := $(VENV)/.bench-ready

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all lint format bench reproduce results image image-test clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(TRAIN_READY) ## create the virtual environment and install the application's requirements

train: $(TRAIN_READY) ## train with the default configuration; ARGS="..." adds arguments
	$(RUN) train.py fit $(ARGS)

test: $(DEV_READY) ## run the quick tests
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow" $(ARGS)

test-all: $(DEV_READY) ## run every test
	$(RUN) -m pytest $(ARGS)

lint: $(DEV_READY) ## check style, format, types and pins
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m tests.pin_check

format: $(DEV_READY) ## rewrite the sources in the house format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(BENCH_READY) ## measure speed beside other libraries, about 10 minutes; ARGS="outer_step --budget 60" for less
	$(RUN) -m benchmarks $(ARGS)

reproduce: $(TRAIN_READY) ## train and test the experiments without a result, or EXPERIMENT=maml_omniglot_5w1s; SEED, ITERATIONS, MINUTES, JOBS, DATA
	$(RUN) -m reproduction $(strip $(EXPERIMENT) $(if $(SEED),--seeds $(SEED)) $(if $(ITERATIONS),--iterations $(ITERATIONS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(JOBS),--jobs $(JOBS)) $(if $(DATA),--data $(DATA)) $(ARGS))

results: $(TRAIN_READY) ## write RESULTS.md from what `make reproduce` has found
	$(RUN) -m reproduction.pages

image: ## build the image; IMAGE=name names it, ENGINE=podman or buildah builds it without Docker
	$(ENGINE) build -t $(IMAGE) .

image-test: ## build the image and try it as a cluster runs it, 15 minutes and 20 GB; ARGS="--no-build" tries the one that is there
	$(PYTHON) -m deploy.image_test --engine $(ENGINE) --image $(IMAGE) $(ARGS)

clean: ## remove the virtual environment and the tools' caches; runs/ and data/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(RUN):
	@$(if $(PYTHON),:,echo "No Python 3.11 or 3.12 found: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1)
	@$(PYTHON) -c "import os, sys, sysconfig; \
	sys.version_info[:2] in ((3, 11), (3, 12)) or sys.exit('Python 3.11 or 3.12 is needed; $(PYTHON) is ' + sys.version.split()[0]); \
	header = sysconfig.get_path('include') + '/Python.h'; \
	os.path.exists(header) or sys.exit(header + ' is missing: install the Python headers (Debian: python3-dev)')"
	@command -v gcc >/dev/null || { echo "gcc is missing, and learn2learn is built with it: install it (Debian: gcc libc6-dev)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# pip is upgraded first: the one in Python 3.11 refuses the learn2learn line.
$(TRAIN_READY): requirements.txt | $(RUN)
	$(RUN) -m pip install --upgrade pip
	$(RUN) -m pip install -r requirements.txt
	@touch $@

# --no-deps: what the comment in the file says.
$(BENCH_READY): requirements-bench.txt $(TRAIN_READY)
	$(RUN) -m pip install --no-deps -r requirements-bench.txt
	@touch $@

$(DEV_READY): requirements-dev.txt $(TRAIN_READY)
	$(RUN) -m pip install -r requirements-dev.txt
	@touch $@
