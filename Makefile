# One entry for everything: `make help` lists it. Needs GNU make, a POSIX shell and Python >= 3.11.
# Each target makes the environments it needs; finished steps are not run again.

PYTHON ?= python3
VENV := .venv
CLIENTS := .venv-clients
LOCKER := .venv-lock
ARGS ?=
PROGRAMS ?=
SITE ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

# Installs see hashes, never a resolver; a machine's own pip settings say where packages come from.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps
LOCKED := $(PIP_INSTALL) --require-hashes
COMPILE = $(LOCKER)/bin/uv pip compile --quiet --no-config --universal --generate-hashes \
	--no-emit-index-url --no-header --python-version 3.11 $(if $(UPGRADE),--upgrade)

# $(call step,LABEL,COMMAND): one line when it works; everything it printed when it does not.
define step
@printf '%-34s' '$(1)'; start=$$(date +%s); \
if out=$$($(2) 2>&1); then printf 'ok %4s s\n' "$$(($$(date +%s) - start))"; \
else printf 'FAILED\n%s\n' "$$out" >&2; exit 1; fi
endef

# $(call new_venv,DIRECTORY): an empty environment, or a sentence on what this machine lacks.
define new_venv
@$(PYTHON) -c '' 2>/dev/null || { echo "gridplane needs Python 3.11 or newer, and '$(PYTHON)' does" \
	"not run here. Name one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "gridplane needs Python 3.11 or newer; '$(PYTHON)' is" \
	"$$($(PYTHON) -c 'import platform; print(platform.python_version())')." \
	"Name a newer one: make PYTHON=python3.11 ..." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "'$(PYTHON)' cannot make virtual environments: its venv module is missing." \
	"Install it (Debian: python3-venv) or name another: make PYTHON=... ..." >&2; exit 1; }
@rm -rf '$(1)'
$(call step,$(1): create,$(PYTHON) -m venv '$(1)')
endef

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: venv venv-clients
venv: $(VENV)/.project ## .venv: gridplane (editable) and its development tools, from the lock
venv-clients: $(CLIENTS)/.locked ## .venv-clients: the clients that others wrote, for tests

$(VENV)/.locked: requirements/dev.txt
	$(call new_venv,$(VENV))
	$(call step,$(VENV): install the lock,$(VENV)/bin/python $(LOCKED) -r $<)
	@touch $@

$(VENV)/.project: $(VENV)/.locked pyproject.toml
	$(call step,$(VENV): install gridplane,$(VENV)/bin/python $(PIP_INSTALL) --no-build-isolation --no-index --editable .)
	@touch $@

$(CLIENTS)/.locked: requirements/clients.txt
	$(call new_venv,$(CLIENTS))
	$(call step,$(CLIENTS): install the lock,$(CLIENTS)/bin/python $(LOCKED) -r $<)
	@touch $@

$(LOCKER)/.locked: requirements/resolver.txt
	$(call new_venv,$(LOCKER))
	$(call step,$(LOCKER): install the lock,$(LOCKER)/bin/python $(LOCKED) -r $<)
	@touch $@

# Folders that hold Python at this moment: a tool is never pointed at one that does not exist yet.
SOURCES = $(patsubst %/,%,$(sort $(dir $(wildcard control_plane/*.py stacks/*.py policy/*.py tests/*.py bench/*.py tools/*.py))))

.PHONY: check
check: venv ## format, lint, types, imports, locks and generated files
	$(call step,format,$(VENV)/bin/ruff format --check $(SOURCES))
	$(call step,lint,$(VENV)/bin/ruff check $(SOURCES))
	$(call step,types,$(VENV)/bin/mypy $(SOURCES))
	$(call step,imports,$(VENV)/bin/lint-imports)
	$(call step,locks agree with pyproject.toml,$(VENV)/bin/python -m tools.check_locks)
	$(call step,generated files are up to date,$(VENV)/bin/python -m tools.generate --check)

.PHONY: fix
fix: venv ## format, and apply the lint fixes that are safe
	@$(VENV)/bin/ruff format --quiet $(SOURCES)
	@$(VENV)/bin/ruff check --quiet --fix $(SOURCES)

.PHONY: generate
generate: venv ## write schemas and reference pages from control_plane/api
	$(call step,generate,$(VENV)/bin/python -m tools.generate)

.PHONY: test-fast test
test-fast: venv ## tests that need neither root, Go nor other environments (ARGS="-k pool")
	@$(VENV)/bin/python -m pytest -m 'not slow and not clients and not lab and not root and not cluster' $(ARGS)

# Two workers: hosts that boot and settle leave most of a core to everything else.
test: check venv-clients tools hosts ## the gate: check, then every test; builds what `gridplane lab` runs
	@$(VENV)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

.PHONY: tools hosts
tools: venv ## the real programs that `gridplane lab` runs, from source (PROGRAMS="etcd kube-apiserver")
	@$(VENV)/bin/python -m tools.build $(PROGRAMS)

hosts: venv ## what the lab's hosts are made of: packages, Debian trees, images (root)
	@$(VENV)/bin/python -m tools.hosts

.PHONY: image wheels
image: venv ## the container image of gridplane, without a registry (Debian, root, mmdebstrap)
	@$(VENV)/bin/python -m tools.image

wheels: venv ## dist/wheels: what a builder needs beside the Containerfile
	@$(VENV)/bin/python -m tools.image --wheels dist/wheels

# An exported KUBECONFIG may lead anywhere: only one that is named here is taken.
.PHONY: up
up: venv ## a site's cluster, platform and fleet by Pulumi (SITE=lab, KUBECONFIG=FILE for a cluster that stands)
	@$(VENV)/bin/python -m tools.up --site '$(SITE)' \
		$(if $(findstring command line,$(origin KUBECONFIG)),--kubeconfig '$(KUBECONFIG)')

.PHONY: campaign bench demo
campaign: venv ## the long randomised runs (ARGS are passed on)
	@$(VENV)/bin/python -m tests.campaign $(ARGS)

bench: venv venv-clients ## benchmarks beside their peers (ARGS="poll", ARGS=--write)
	@$(VENV)/bin/python -m bench $(ARGS)

demo: venv ## a simulated site, from declaration to converged
	@$(VENV)/bin/gridplane demo $(ARGS)

.PHONY: lock
lock: $(LOCKER)/.locked ## resolve pyproject.toml into requirements/ (UPGRADE=1 for newer versions)
	$(call step,requirements/runtime.txt,$(COMPILE) --extra fast --extra kube --extra gpu --extra meters -o requirements/runtime.txt pyproject.toml)
	$(call step,requirements/dev.txt,$(COMPILE) --extra fast --extra kube --extra gpu --extra meters --extra pulumi --extra ssh --group dev -c requirements/runtime.txt -o requirements/dev.txt pyproject.toml)
	$(call step,requirements/clients.txt,$(COMPILE) --group clients -o requirements/clients.txt)
	$(call step,requirements/resolver.txt,$(COMPILE) --group resolver -o requirements/resolver.txt)

.PHONY: clean
clean: ## remove environments, caches and build output
	@rm -rf $(VENV) $(CLIENTS) $(LOCKER) build dist *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
