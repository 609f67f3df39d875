# Every command a person needs. `make` alone prints them.
.DEFAULT_GOAL := help
.PHONY: help up down run test e2e bench lint format lock clean

# Some machines forbid compiled modules: then every process of a test or a measurement compiles
# the project anew, which an image never does.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
UV_COMPILE = $(VENV)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/ready ## a Kubernetes cluster on this machine with a release that serves
	@$(RUN) -m tests.cluster.release up

down: $(VENV)/ready ## take that cluster away, without a trace
	@$(RUN) -m tests.cluster.release down

run: $(VENV)/ready ## the service and its worker, on an embedded PostgreSQL or DATABASE_URL
	@$(RUN) -m tests.run

test: $(VENV)/ready lint ## all fast tests: real PostgreSQL, real API server, no node
	@$(RUN) -m tests.cluster build etcd kube-apiserver kubectl helm otelcol promtool \
		pgbouncer postgresql-debian versitygw redis-server chromedriver
	@$(RUN) -m pytest -n 2 -m 'not e2e'

e2e: $(VENV)/ready ## a release on a real node of its own, asserted; KUBECONFIG=… for yours
	@$(RUN) -m pytest -m e2e -s tests/e2e

bench: $(VENV)/bench/ready ## what the hooks cost, beside others; BENCH="inprocess --rounds 3" for a part
	@$(VENV)/bench/bin/python -m bench $(BENCH)

lint: $(VENV)/ready ## ruff and mypy
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy

format: $(VENV)/ready ## let ruff mend what it can
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

lock: $(VENV)/ready ## compile requirements/*.lock anew; UPGRADE=--upgrade takes newer versions
	@test -x $(VENV)/uv/bin/uv || ($(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install -q uv)
	$(UV_COMPILE) $(UPGRADE) requirements/build.in -o requirements/build.lock
	$(UV_COMPILE) $(UPGRADE) requirements/operator.in -o requirements/operator.lock
	$(UV_COMPILE) $(UPGRADE) pyproject.toml requirements/service.in --extra migrate \
		--extra sentry --extra traces --extra workers \
		-o requirements/service.lock
	$(UV_COMPILE) $(UPGRADE) pyproject.toml requirements/dev.in --all-extras \
		-o requirements/dev.lock
	$(UV_COMPILE) $(UPGRADE) pyproject.toml requirements/bench.in --extra migrate --extra sentry --extra traces \
		-c requirements/service.lock -o requirements/bench.lock

clean: ## remove the virtual environment and the data of `make run`
	rm -rf $(VENV) .tidegate

# The tools and libraries, exactly as locked; made again when a lock file changes.
$(VENV)/ready: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| (echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.13" >&2; exit 1)
	@echo "preparing $(VENV) (about a minute, once)"
	@# An environment that an earlier try left half made has no pip: begin anew.
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) \
		|| (echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/dev.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@

# What is measured against lives apart: its pins must not decide ours.
$(VENV)/bench/ready: requirements/bench.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| (echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.13" >&2; exit 1)
	@echo "preparing $(VENV)/bench (about half a minute, once)"
	@$(VENV)/bench/bin/python -m pip --version >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV)/bench \
		|| (echo "python3-venv is missing: apt-get install python3-venv" >&2; exit 1)
	@$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/bench.lock
	@$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@
