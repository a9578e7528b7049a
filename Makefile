# Everything runs in a virtual environment of its own; `make` alone prints this help.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DATA   ?=
SUITE  ?= quick
ITEMS  ?= 100000
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Only files whose hash is in a lock file. A build of torch on disk, where pip looks for one, goes before that of an index, which has CUDA.
LOCKED := $(PIP) install --quiet --require-hashes --no-deps --only-binary :all:
# Where nobody may write bytecode, each of the hundreds of processes of a run compiles molar anew, and the wheel's torch.
unexport PYTHONDONTWRITEBYTECODE
FILES_AT_A_TIME = $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install demo test test-quick test-full lint types contracts lock supply-chain licences sbom lowest wheel eval bench bench-alignment referee bench-check attacks docs docs-site
.PHONY: notebooks screenshot clean

help:  ## print this help
	@awk 'BEGIN {FS = ":.*## "; print "make <target>\n"} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml $(wildcard requirements/*.lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "molar needs Python 3.11 or newer")'
	@echo "installing into $(VENV), this takes a few minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) --no-compile --no-index --requirement requirements/torch.lock 2>/dev/null || $(LOCKED) --no-compile --requirement requirements/torch.lock
	@$(LOCKED) --no-compile --requirement requirements/dev.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@! $(PIP) check | grep -q '^torch .* \(nvidia\|cuda\|triton\)' || $(LOCKED) --no-compile --requirement requirements/cuda.lock  # PyPI's build for Linux
	@$(PIP) check
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/transformers/models/|/ray/(rllib|data|serve|train|tune)/' $(VENV)/lib || true  # pip does it on one core
	@touch $@

install: $(READY)  ## make the virtual environment and install everything into it

demo: $(READY)  ## write a made-up shop, then embed, align and query it; it has 800 users, or USERS=1500
	$(BIN)/molar demo .work/demo $(if $(USERS),--users $(USERS))

test test-quick: export OMP_NUM_THREADS := 1
test: export MOLAR_TEST_PICTURES := $(CURDIR)/.work/pictures
test: $(READY)  ## run the tests, several files at a time, then those that measure time; pictures of the studio go to .work/pictures
	kept=$$(mktemp -d); export MOLAR_TEST_TRAINED=$$kept/trained; \
	$(FILES_AT_A_TIME) --durations 30 -m "not alone"; several=$$?; \
	$(BIN)/python -m pytest --durations 10 -m alone $$(grep -rl --include='test_*.py' mark.alone tests); alone=$$?; \
	rm -r $$kept; exit $$((several | alone))

test-quick: $(READY)  ## the tests that take no time, for while you write
	$(FILES_AT_A_TIME) -m "not slow and not realdata and not trains and not alone" tests/unit

test-full: export MOLAR_TEST_FULL := 1
test-full: export MOLAR_TEST_ATTACKS := full
test-full: test  ## the tests with those that take gigabytes and minutes, attacks at full strength

lint: $(READY)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## check types
	$(BIN)/mypy

contracts: $(READY)  ## check that the packages import one way
	$(BIN)/lint-imports

lock:  ## write requirements/*.lock from pyproject.toml; UPGRADE=1 takes the newest versions of everything
	@test -x $(BIN)/uv || $(MAKE) install
	$(BIN)/python requirements/lock.py $(if $(UPGRADE),--upgrade)

supply-chain: licences sbom  ## check that the lock files are current, and licences; write the bill of materials
	$(BIN)/python requirements/lock.py --check

licences: $(READY)  ## check the licences of all that molar runs on against requirements/licences.toml
	$(BIN)/python requirements/licences.py

sbom: $(READY)  ## write a bill of materials (CycloneDX) to .work/sbom.json
	$(BIN)/python requirements/sbom.py .work/sbom.json

lowest: $(READY)  ## run the tests with the lowest versions that pyproject.toml promises
	$(BIN)/python tests/packaging/lowest_versions.py .work/lowest

wheel: $(READY)  ## build the wheel, install it into a clean environment, run the demo from there
	$(BIN)/python tests/packaging/check_wheel.py

eval: $(READY)  ## evaluate on the demo shop, or on DATA=path/to/catalogue with SUITE=quick|paper|temporal|cold
	$(BIN)/molar evaluate $(or $(DATA),--demo) --suite $(SUITE) --workspace .work/eval/$(notdir $(or $(DATA),demo))

bench-alignment: SUITE = alignment-loo
bench-alignment: $(READY)  ## presets against parts and baselines on DATA=path, SUITE=alignment-loo|alignment-last-day: hours
	$(BIN)/molar evaluate $(or $(DATA),--demo) --suite $(SUITE) --workspace .work/eval/$(notdir $(or $(DATA),demo))

referee: $(READY)  ## the whole, its parts and all others, three seeds, one declared comparison, on DATA=path: days, goes on where it was killed
	$(BIN)/molar evaluate $(or $(DATA),--demo) --suite referee --workspace .work/eval/$(notdir $(or $(DATA),demo))

bench: $(READY)  ## throughput, latency, memory, a made-up catalogue of ITEMS items, training, serving, each beside what it is compared to
	$(BIN)/python bench/run.py $(if $(DATA),--data $(DATA))
	$(BIN)/python bench/scale.py --items $(ITEMS)
	$(BIN)/python bench/training.py $(if $(DATA),--data $(DATA))
	$(BIN)/molar demo .work/demo --quiet
	$(BIN)/python bench/serving.py .work/demo/.molar --update

bench-check: $(READY)  ## faults planted in the demo shop, or in DATA=path, and how many of them `molar check` finds
	$(BIN)/python bench/check.py $(DATA) --write $(if $(DATA),--seeds 1 --each 20)

attacks: $(READY)  ## the attacks of tests/attacks at full strength, 20 minutes, and the table of docs/security.md
	$(BIN)/python bench/attacks.py --write
	$(BIN)/python docs/write_security.py

docs: $(READY)  ## write the documents that are made from code and reports
	$(BIN)/python docs/write_cli.py
	$(BIN)/python docs/write_python.py
	$(BIN)/python docs/write_report_schema.py
	$(BIN)/python docs/write_server.py
	$(BIN)/python docs/write_serving.py
	$(BIN)/python docs/write_security.py
	$(BIN)/python docs/write_results.py

docs-site: $(READY)  ## the documents as a site in .work/site, with the reference and every report; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

notebooks: $(READY)  ## run the notebooks of examples/ and write their outputs
	$(BIN)/python tests/packaging/check_notebooks.py --write

screenshot: $(READY)  ## write the pictures of the documents: docs/answer.png, docs/storefront.webp, docs/studio/; needs Chromium
	$(BIN)/python docs/write_screenshot.py
	$(BIN)/python docs/write_storefront.py
	$(BIN)/python docs/write_studio.py

clean:  ## remove the environment, caches and results
	rm -rf $(VENV) .work .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
