# Everything a clone needs, in one command each. Every target sets up .venv by itself and does so
# again only when what it installs has changed: .run and .test in it say what was installed last.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# -qq leaves pip its errors. Nothing is resolved or built from outside the pinned files.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
# The same into another environment, of which the path to its Python follows.
INTO := $(BIN)/python -m pip --disable-pip-version-check --no-input --python
EDITABLE := $(INSTALL) --no-deps --no-build-isolation --editable .
# bench/ is only in a checkout.
TYPED := $(wildcard src tests bench tools)

LOCK := $(VENV)-lock
COMPILE := $(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate
OURS := pyproject.toml --extra server --extra postgresql --extra jetstream

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo cluster-demo serve test test-nodes check bench bench-peers figures torture torture-model torture-readers torture-postgresql torture-jetstream docs site man deb sbom fuzz format lock clean

help: ## this list
	@echo "make TARGET [ARGS='...'] [PYTHON=python3]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## the whole thing on this machine, with made-up traffic
	@$(BIN)/pullstatus demo $(ARGS)

ENGINE ?= jetstream
cluster-demo: $(VENV)/.test ## two servers on a cluster whose nodes are killed; ENGINE=jetstream or postgresql
	@$(BIN)/python -m tools.cluster_demo --engine $(ENGINE) $(ARGS)

serve: $(VENV)/.run ## the server, on this machine
	@$(BIN)/pullstatus serve $(ARGS)

test: $(VENV)/.test ## every test; ARGS='tests/unit -k sign' for some
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-nodes: $(VENV)/.test ## what any engine must pass, over three real nodes of JetStream
	@PULLSTATUS_NODES=1 $(BIN)/python -m pytest -n 2 --dist worksteal -k jetstream-nodes \
		tests/store/test_conformance.py tests/store/test_doors.py tests/store/test_model.py $(ARGS)

check: $(VENV)/.test ## format, lint, types, what is unsafe, and the import picture
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	@$(BIN)/python -m pytest -q tests/test_layout.py

bench: $(VENV)/.test $(VENV)-profile/.installed ## repeatable loads; ARGS names some
	@$(BIN)/python -m bench $(ARGS)

PEERS := $(VENV)-peers
bench-peers: $(VENV)/.test $(PEERS)/.installed ## the same loads on what people build instead
	@$(BIN)/python -m bench.peers $(ARGS)

figures: $(VENV)/.test $(VENV)-profile/.installed $(PEERS)/.installed ## every figure there is, recorded, and written into the pages; an hour and a half
	@$(BIN)/python -m bench all --record $(ARGS); measured=$$?; \
	$(BIN)/python -m bench.peers --record && $(BIN)/python -m tools.generate && exit $$measured

$(PEERS)/.installed: bench/peers/requirements.txt
	@echo "Installing the peers' packages ..."
	@$(PYTHON) -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Environments of which tests have need beside the one they run in. What they load is compiled then:
# to compile all of it, and to give each a pip of its own, is half of what making them takes.
$(VENV)-%/.installed: requirements/%.txt | $(VENV)/.made
	@$(PYTHON) -m venv --clear --without-pip $(@D)
	@$(INTO) $(@D)/bin/python install -qq --no-compile --require-hashes -r $<
	@touch $@

# What run.txt names, for tests that install the checkout as its pages say, without an index.
$(VENV)-wheels/.installed: requirements/run.txt | $(VENV)/.made
	@rm -rf $(@D)
	@$(BIN)/python -m pip download -qq --disable-pip-version-check --require-hashes -r $< -d $(@D)
	@touch $@

docs: $(VENV)/.test ## writes into README and docs/ what they take from the program
	@$(BIN)/python -m tools.generate

site: $(VENV)-site/.installed ## the documents as a site with search, in build/site; a dead link ends it
	@mkdir -p build/site-pages
	@$(VENV)-site/bin/python -m tools.site

DIST := $(VENV)-dist
man: $(DIST)/.ours ## a page for man(1) of each command, in build/man
	@$(DIST)/bin/python -m tools.manual build/man

# The package is for the Python that Debian has, which is that of /usr/bin.
DEBIAN_PYTHON ?= /usr/bin/python3
deb: man ## a Debian package with all that the program runs on, in build; ARGS are dpkg-deb's
	@dist/debian/build build/pullstatus.deb $(DEBIAN_PYTHON) build/man \
		"$$($(DIST)/bin/python -c 'from pullstatus.version import VERSION; print(VERSION)')" $(ARGS)

sbom: $(DIST)/.ours $(VENV)-run/.installed ## what the program is made of, with licences: CycloneDX, in build
	@mkdir -p build
	@$(DIST)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.cdx.json $(VENV)-run/bin/python

$(DIST)/.ours: $(DIST)/.installed
	@$(INTO) $(DIST)/bin/python install -qq --no-deps --no-build-isolation --editable .
	@touch $@

CUTS ?= 1000000
SEED ?= 1
torture: $(VENV)/.test ## power cuts at random writes of the store; CUTS=... SEED=...
	@$(BIN)/python -m tests.sim --cuts $(CUTS) --seed $(SEED) $(ARGS)

EXAMPLES ?= 1000
torture-model: $(VENV)/.test ## every engine of the store against the model; EXAMPLES=... SEED=...
	@PULLSTATUS_MODEL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 -o faulthandler_timeout=0 \
		--hypothesis-seed=$(SEED) tests/store/test_model.py $(ARGS)

torture-readers: $(VENV)/.test ## kills of consumers and their server at random instants; KILLS=... SEED=...
	@$(BIN)/python -m tests.faults --kills $(or $(KILLS),1000) --seed $(SEED) $(ARGS)

torture-postgresql: $(VENV)/.test ## kills of a PostgreSQL, as many of its clients, failovers and more; KILLS=... SEED=...
	@$(BIN)/python -m tests.faults.torture postgresql --kills $(or $(KILLS),100) --seed $(SEED) $(ARGS)

torture-jetstream: $(VENV)/.test ## kills of nodes of JetStream and clients, power cuts, cuts of the network; KILLS=... SEED=... ARGS=--large
	@$(BIN)/python -m tests.faults.torture jetstream --kills $(or $(KILLS),100) --seed $(SEED) $(ARGS)

SECONDS ?= 20
fuzz: $(VENV)-fuzz/.installed ## every parser, guided by coverage, and both ways of a server; SECONDS=... of each, SEED=..., ARGS='--only NAME'
	@PYTHONPATH=src $(VENV)-fuzz/bin/python -m tests.fuzz --seconds $(SECONDS) --seed $(SEED) $(ARGS)

format: $(VENV)/.test ## rewrites the code the way check wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

lock: ## pins anew what requirements/*.in and pyproject.toml ask for; ARGS=--upgrade for the newest
	@test -x $(LOCK)/bin/uv || { $(PYTHON) -m venv $(LOCK) && $(LOCK)/bin/pip install -qq uv; }
	@$(COMPILE) $(ARGS) $(OURS) requirements/run.in -o requirements/run.txt
	@$(COMPILE) $(ARGS) $(OURS) requirements/run.in requirements/test.in \
		--constraints requirements/run.txt -o requirements/test.txt
	@$(COMPILE) $(ARGS) $(OURS) requirements/examples.in \
		--constraints requirements/run.txt -o requirements/examples.txt
	@$(COMPILE) $(ARGS) requirements/contract.in -o requirements/contract.txt
	@$(COMPILE) $(ARGS) requirements/profile.in -o requirements/profile.txt
	@$(COMPILE) $(ARGS) requirements/site.in -o requirements/site.txt
	@$(COMPILE) $(ARGS) $(OURS) requirements/run.in requirements/dist.in \
		--constraints requirements/run.txt -o requirements/dist.txt
	@$(COMPILE) $(ARGS) $(OURS) requirements/run.in requirements/fuzz.in \
		--constraints requirements/test.txt -o requirements/fuzz.txt
	@$(COMPILE) $(ARGS) bench/peers/requirements.in -o bench/peers/requirements.txt
	@$(COMPILE) $(ARGS) --resolution lowest-direct $(OURS) -o requirements/lowest.txt

clean: ## removes .venv and everything else that was made here
	@rm -rf $(VENV) $(VENV)-* build htmlcov .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find src tests $(wildcard bench) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pullstatus needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV), once; this takes a minute."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml | $(VENV)/.made
	@echo "Installing what pullstatus runs on ..."
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(EDITABLE)
	@touch $@

# What tests need contains what the program needs, in the same versions.
$(VENV)/.test: requirements/test.txt requirements/run.txt pyproject.toml | $(VENV)/.made
	@echo "Installing what pullstatus runs on and is tested with ..."
	@$(INSTALL) --require-hashes -r requirements/test.txt
	@$(EDITABLE)
	@touch $(VENV)/.run $@
