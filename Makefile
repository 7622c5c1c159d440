# Needs Python 3.11 or newer, git and make; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMP := $(VENV)/.synced
PROFILE ?= quick
BENCH ?= generator
ARGS ?=
# A process for each core, up to four; the tests of a file share what they have set up.
PYTEST = -n logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder --durations=10
CML_VERSION := 0.20.6
# Of the hundreds of columns: the parameters that differ, and the metrics at the top of a report.
EXP_DROP := ^(?!Experiment$$|Created$$|State$$|Executor$$|.*Params\.|BATCH_SIZE|models\.|trainer\.|backgrounds\.)
EXP_KEEP := ^(val_acc|formats\.accuracy|shifted\.accuracy|clutter\.with_text\.share|latency\.median_ms)$$
COMPILE = $(UV) pip compile --universal --python-version 3.11 --no-annotate --no-header \
	--no-emit-index-url --quiet $(UPGRADE)

# The first Python that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

# Stages call `python`, and this is the one, with or without an activated environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test test-all coverage lint docs format serve dashboard mlem cloud-run flywheel-demo gallery bench bench-gpu report publish comment promote fresh relock deps repro commit-results start-checks remote pull push gs wandb cml exp-show reset audit sbom pin-images lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## build the environment in .venv; a second when nothing has changed

$(UV): requirements.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer was found; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
# Where ensurepip is missing, as on Debian, a failed venv leaves a python without pip: it is made anew.
	@{ test -x $(BIN)/python && { test -x $(UV) || $(BIN)/python -m pip --version >/dev/null 2>&1; }; } || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; on Debian, install python3-venv" >&2; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ;]*' requirements.txt)"
	@touch $(UV)

# Compiled at once: else each stage would compile anew what it imports where nothing may be written, or
# PYTHONDONTWRITEBYTECODE is set.
$(STAMP): $(UV) requirements.txt pyproject.toml
	$(UV) pip sync --compile-bytecode --python $(BIN)/python requirements.txt
	@touch $@

# Environments of their own: serving needs no torch, and MLEM nothing that is current.
.venv-%/.synced: requirements-%.txt $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-$*
	$(UV) pip sync --compile-bytecode --python .venv-$*/bin/python $<
	@touch $@

run: setup ## run the whole pipeline, then show metrics (PROFILE=quick|smoke|full, ARGS="-S name=value")
	@python -m scripts.run $(PROFILE) $(ARGS)

test: setup ## run the tests, but those that take minutes or need more than Python
	python -m pytest -m "not slow" $(PYTEST) $(ARGS)

test-all: setup .venv-mlem/.synced ## run all tests; those of the page need Chromium
	python -m pytest $(PYTEST) $(ARGS)

coverage: setup .venv-mlem/.synced ## lines and branches that the tests run, subprocesses included (ARGS='-m "not slow"')
	@rm -f .coverage .coverage.*
	COVERAGE_FILE=$(CURDIR)/.coverage python -m coverage run -m pytest $(PYTEST) $(ARGS)
	python -m coverage combine --quiet && python -m coverage report --skip-covered

lint: setup ## check style, format, types, layers of imports, dependencies of stages, documentation
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	@python -m scripts.dependencies --check
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

docs: setup ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

format: setup ## fix style and format
	ruff check --fix .
	ruff format .

serve: .venv-serve/.synced ## serve the page and the HTTP interface (ARGS="--port 8080")
	@.venv-serve/bin/python -m src.serve $(ARGS)

dashboard: .venv-dashboard/.synced ## show the dashboard (ARGS="--feedback sqlite:///feedback.db")
	@.venv-dashboard/bin/python -m src.dashboard $(ARGS)

mlem: .venv-mlem/.synced ## build MLEM's environment, for src.save_stack and src.serve --engine mlem

cloud-run: ## build the server's image and deploy it on Cloud Run (PROJECT=... REGION=... SERVICE=dashboard)
	@PROJECT="$(PROJECT)" REGION="$(REGION)" SERVICE="$(SERVICE)" docker/cloud-run.sh

flywheel-demo: setup ## the whole loop of feedback with a simulated user, in flywheel-demo/
	python -m scripts.flywheel_demo $(ARGS)

gallery: setup ## draw contact sheets of plates, scenes and crops
	python -m src.gallery $(ARGS)

bench: setup ## measure one of generator, reader, train (BENCH=generator)
	python bench/$(BENCH).py $(ARGS)

bench-gpu: setup ## run all that needs a GPU: CUDA tests, training throughput, the whole pipeline
	@python bench/gpu.py $(ARGS)

report: setup ## write report/report.md: the workspace beside BASE (BASE=main)
	@python -m src.report --base $(or $(BASE),main)

publish: setup ## push the report's images to the branch reports, and write report/comment.md
	@python -m src.publish report

comment: ## publish report/comment.md on GitHub with CML (ARGS="--target=commit")
	@command -v cml >/dev/null || { echo "error: cml is not installed; npm install -g @dvcorg/cml@0.20.6" >&2; exit 1; }
	cml comment update $(ARGS) report/comment.md

promote: setup ## promote the exported bundle if it is better (ARGS="--primary shifted")
	@python -m src.promote $(ARGS)

fresh: setup ## say whether dvc.lock fits code, data and parameters
	@python -m scripts.fresh $(ARGS)

relock: setup ## take changed code into dvc.lock without a run, where it computes the same
	@python -m scripts.relock

deps: setup ## write into dvc.yaml what stages depend on by their imports
	@python -m scripts.dependencies

repro: setup ## run what has changed, with the parameters as they are
	@python -m scripts.results make $(ARGS)

commit-results: setup ## commit dvc.lock and the results that Git keeps, and push the branch
	@python -m scripts.results commit

start-checks: setup ## start the workflows that follow a commit of results; in a workflow
	@python -m scripts.github start ci.yml mlops.yml

remote: setup ## set up the DVC remote (URL=s3://bucket/prefix ENDPOINT=http://...)
	@python -m scripts.remote "$$URL" --endpoint "$$ENDPOINT"

pull: setup ## fetch the data of dvc.lock from the DVC remote (ARGS="train_ocr": of a stage)
	@python -m scripts.transfer pull $(ARGS)

push: setup ## send the data of dvc.lock to the DVC remote
	@python -m scripts.transfer push $(ARGS)

gs: setup ## add Google Cloud Storage to the environment
	$(UV) pip install --python $(BIN)/python --constraint requirements.txt dvc-gs

wandb: setup ## add Weights & Biases to the environment, for the parameter tracker
	$(UV) pip install --python $(BIN)/python --constraint requirements.txt wandb

# Where CML is that version already, as on a runner that CML has started, it stays.
cml: $(UV) ## install CML, which make comment calls; needs npm
	@test "$$(cml --version 2>/dev/null)" = $(CML_VERSION) || npm install --global --prefix $(VENV) --ignore-scripts @dvcorg/cml@$(CML_VERSION)

exp-show: setup ## list all experiments with their metrics
	dvc exp show --no-pager --only-changed --drop "$(EXP_DROP)" --keep "$(EXP_KEEP)"

reset: setup ## restore the committed parameters and results after a run
	@python -m scripts.reset

audit: setup ## look up known vulnerabilities of the pinned packages; needs a network
	@for file in requirements.txt requirements-serve.txt requirements-dashboard.txt requirements-watch.txt; do \
		echo "$$file ($$(head -n 1 $$file | sed 's/^# //')):"; \
		python -m pip_audit --requirement "$$file" --no-deps --disable-pip --progress-spinner off $(ARGS) || failed=1; \
	done; test -z "$$failed" || { echo "error: a package has a known vulnerability, or no advisory could be fetched; see above" >&2; exit 1; }

sbom: setup ## write sbom.cdx.json, a CycloneDX SBOM of the server's environment
# It takes a name and a version from pyproject.toml, but stumbles over Poetry's section.
	@awk '/^\[/ {on = $$0 == "[project]"} on && /^(\[|name|version)/' pyproject.toml >.sbom.toml
	@python -m cyclonedx_py requirements --pyproject .sbom.toml --output-reproducible \
		--output-file .sbom.partial requirements-serve.txt
	@rm .sbom.toml && mv .sbom.partial sbom.cdx.json && echo "Wrote sbom.cdx.json."

pin-images: ## pin the base images of docker/ to their digests; needs Docker and the registry
	@docker/pin-images.sh

lock: setup ## resolve pyproject.toml anew into requirements*.txt (UPGRADE=--upgrade: newest versions)
	$(COMPILE) pyproject.toml --group pipeline --group dev -o requirements.txt
	$(COMPILE) pyproject.toml --extra serve -o requirements-serve.txt
	$(COMPILE) pyproject.toml --extra dashboard -o requirements-dashboard.txt
	$(COMPILE) pyproject.toml --extra video --extra sinks -o requirements-watch.txt
	$(COMPILE) requirements-mlem.in -o requirements-mlem.txt
	@for file in requirements*.txt; do \
		{ echo "# Resolved on $$(date -u +%Y-%m-%d)."; cat "$$file"; } >.lock.partial && mv .lock.partial "$$file"; \
	done
