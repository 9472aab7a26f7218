# molformer: one command for each thing one does with a checkout. `make help` lists them.

TORCH ?= torch==2.13.0
N ?= 100
REPOSITORY ?=
VENV := .venv
PYTHON := $(VENV)/bin/python
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-notebooks lint types docs data notebooks pictures bench fuzz soak bench-peers mutation release-check clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## make .venv with the tested versions; TORCH=... chooses another torch

# Made anew when the requirements change, or when another TORCH is asked for, which may bring a Triton of its own.
$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet "$(TORCH)"
	grep -vE '^($(if $(filter file,$(origin TORCH)),torch,torch|triton))==' constraints.txt > $(VENV)/constraints.txt
	$(PYTHON) -m pip install --quiet --constraint $(VENV)/constraints.txt --editable ".[dev]"
	touch $@

$(VENV)/.torch: FORCE
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@test "$$(cat $@ 2>/dev/null)" = "$(TORCH)" || echo "$(TORCH)" > $@

FORCE:

demo: install  ## train on the embedded data set and predict three molecules, in a few minutes
	rm -rf runs/demo
	$(PYTHON) -m molformer train configs/quickstart.yaml --run runs/demo
	$(PYTHON) -m molformer predict CCO c1ccccc1 data/examples/paracetamol.xyz --model runs/demo

test: install lint types docs  ## lint, types, documentation and the quick tests
	$(PYTHON) -m pytest

test-slow: install  ## the tests that take minutes
	$(PYTHON) -m pytest -m slow

test-notebooks: install  ## run the notebooks with little training, and look for errors, warnings and missing figures
	MOLFORMER_NOTEBOOK_QUICK=1 $(PYTHON) -m pytest -m slow tests/test_notebooks.py

lint: install  ## ruff, and the layers of the package
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(VENV)/bin/lint-imports

types: install  ## mypy
	$(PYTHON) -m mypy

docs: install  ## the documentation, in build/docs; with the results of the notebooks after `make notebooks`
	$(PYTHON) -m sphinx -b html -W --keep-going -q docs build/docs

data: install  ## make the embedded data set again, from its list of fragments
	$(PYTHON) data/enumerate_molecules.py
	$(PYTHON) data/label_molecules.py

notebooks: install  ## run the notebooks and write them as HTML to build/notebooks; some minutes
	$(PYTHON) -m nbconvert --to notebook --execute --output-dir build/notebooks notebooks/*.ipynb
	$(PYTHON) -m nbconvert --to html --output-dir build/notebooks \
	    --TemplateExporter.extra_template_basedirs=notebooks/template --template=offline build/notebooks/*.ipynb

pictures: install  ## draw the pictures of the documentation again, from a model and from stored results
	$(PYTHON) -m benchmarks.pictures

bench: install  ## tables of speed, memory, scaling, predictions and the server; the short form, some minutes
	$(PYTHON) -m benchmarks.speed --quick
	$(PYTHON) -m benchmarks.scaling --quick
	$(PYTHON) -m benchmarks.predict --quick
	$(PYTHON) -m benchmarks.serve --quick

fuzz: install  ## 20,000 unsound inputs for every reader, store, model folder and endpoint; up to 10 minutes
	OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.fuzz

soak: install  ## the server under unfair load, and programs that are killed; some 6 minutes
	$(PYTHON) -m benchmarks.soak

bench-peers: install  ## environments of the packages that `bench` compares with, 5 GB under ~/.cache/molformer
	PYTHON=$(CURDIR)/$(PYTHON) TORCH="$(TORCH)" bash benchmarks/peers/install.sh

mutation: install  ## mutation testing of the core with N=100 random mutants, about half an hour; see tests/mutation.toml
	$(PYTHON) -m pip install --quiet cosmic-ray
	mkdir -p build
	$(VENV)/bin/cosmic-ray init --force tests/mutation.toml build/mutation.sqlite
	$(PYTHON) -c "import sqlite3; sqlite3.connect('build/mutation.sqlite').executescript(open('tests/mutation.sql').read().replace(':n', '$(N)'))"
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/cosmic-ray exec tests/mutation.toml build/mutation.sqlite
	$(VENV)/bin/cr-report --surviving-only --show-diff build/mutation.sqlite

release-check: install  ## build the release and check it, also in a clean environment; REPOSITORY=https://... names the repository
	$(PYTHON) -m pip install --quiet build twine check-wheel-contents pip-audit
	$(PYTHON) .ci/release_check.py --repository "$(REPOSITORY)" --constraint $(VENV)/constraints.txt

clean:  ## remove what was built, not what was trained
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
