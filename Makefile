# The verbs of this repository; CI runs the same ones. `make help` lists them.
#
# The environment is made from the hashed lock and made again only when the lock or a pyproject.toml changes.

PYTHON ?= python3
UV_RELEASE := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
MEMBERS := $(wildcard workloads/*/pyproject.toml)
WORKERS ?= auto
E2E_WORKERS ?= 4
TOOLS := .cache/tools/bin
CHECKOV := .cache/tools/checkov

# Compiled bytecode makes every process start about five times faster; some CI images switch it off.
unexport PYTHONDONTWRITEBYTECODE
export UV_NO_PROGRESS := 1
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
empty :=
space := $(empty) $(empty)
.PHONY: help env run test test-unit test-deploy tools policy-tools e2e e2e-images check fmt lint types imports docs docs-check lock lock-check workflows bench stress ci-tools clean
.PHONY: engine-check versions-check workloads release-notes cluster-metrics registry-check registry-login images image-report image-name image-build image-push image-sign image-tag image-tag-release chart-package chart-push chart-sign release-publish

help: ## Show the verbs
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml $(MEMBERS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}; try: make PYTHON=python3.13")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_RELEASE)
	@echo "environment: installing from requirements.lock"
	@VIRTUAL_ENV=$(VENV) $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps $(foreach m,. $(dir $(MEMBERS)),-e $(m))
	@touch $@

env: $(STAMP) ## Make the environment only

run: $(STAMP) ## Start the reference fleet on an embedded Temporal server and process examples/orders.jsonl
	@$(BIN)/python examples/run_orders.py

test: $(STAMP) tools ## Run all tests that need no cluster
	@PATH="$(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal --ignore=tests/e2e

test-unit: $(STAMP) ## Run the unit tests only (seconds)
	@PATH="$(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal tests/unit

tools: $(STAMP) ## Fetch helm and kubectl, unless they are on PATH
	-@$(BIN)/python scripts/fetch_tools.py $(TOOLS)

policy-tools: $(CHECKOV)/.ready ## Install checkov, which CI tests the manifests with, apart from the environment

# The environment brings uv; that it was renewed is no reason to make this one again.
$(CHECKOV)/.ready: tests/deploy/policy.lock | $(STAMP)
	@test -x $(CHECKOV)/bin/python || $(PYTHON) -m venv --without-pip $(CHECKOV)
	@echo "checkov: installing from tests/deploy/policy.lock"
	@$(BIN)/python -m uv pip sync --quiet --python $(CHECKOV)/bin/python --require-hashes --compile-bytecode tests/deploy/policy.lock
	@mkdir -p $(TOOLS) && ln -sf ../checkov/bin/checkov $(TOOLS)/checkov
	@touch $@

test-deploy: $(STAMP) tools ## Test the chart, Kustomize, alert rules and dashboards (seconds, no cluster)
	@PATH="$(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal tests/deploy

e2e-images: $(STAMP) ## Build the images of the cluster tests and load them with E2E_LOAD_IMAGE, such as "kind load docker-image"
	@$(BIN)/python scripts/e2e_images.py

e2e: $(STAMP) tools ## Test on the cluster of KUBECONFIG, after `make e2e-images` (minutes)
	@PATH="$(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(E2E_WORKERS) --dist=worksteal -m "e2e and not heavy" tests/e2e
	@PATH="$(CURDIR)/$(TOOLS):$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "e2e and heavy" tests/e2e

check: lint types imports docs-check lock-check versions-check workflows ## Lint, types, layers, freshness of docs and lock, workflows

fmt: $(STAMP) ## Format and mend what can be mended
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format .

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/hadolint Dockerfile

types: $(STAMP)
	@MYPYPATH=src:tests/support:tests/e2e/workload/src:benchmarks/workload:$(subst $(space),:,$(wildcard workloads/*/src)) $(BIN)/mypy src workloads/*/src scripts examples benchmarks tests workloads/*/tests

imports: $(STAMP)
	@$(BIN)/lint-imports

docs: $(STAMP) ## Write the generated reference
	@$(BIN)/python scripts/gen_docs.py && $(BIN)/python scripts/gen_chart.py

docs-check: $(STAMP)
	@$(BIN)/python scripts/gen_docs.py --check && $(BIN)/python scripts/gen_chart.py --check

lock: $(STAMP) ## Renew the locks with the newest releases that fit
	@$(BIN)/python scripts/lock.py --upgrade

lock-check: $(STAMP)
	@$(BIN)/python scripts/lock.py --check

workflows: $(STAMP)
	@if [ -d .git ]; then PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/actionlint; fi
	@$(BIN)/zizmor --offline --no-progress --quiet .github

versions-check: ## Check that all places tell the same release; RELEASE=v1.4.0: and that it can be released
	@$(PYTHON) scripts/verify_versions.py $(if $(RELEASE),--release $(RELEASE))

release-notes: ## Print the notes of RELEASE=v1.4.0
	@$(PYTHON) scripts/release_notes.py $(RELEASE)

workloads: ## Print the workloads that get an image, as JSON
	@$(PYTHON) scripts/workloads.py --output json

METRICS_SERVER := v0.8.1

cluster-metrics: ## Install metrics-server in the cluster of KUBECONFIG, for those that come without, such as kind
	@kubectl apply --filename https://github.com/kubernetes-sigs/metrics-server/releases/download/$(METRICS_SERVER)/components.yaml
	@kubectl --namespace kube-system patch deployment metrics-server --type=json \
		--patch='[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kubelet-insecure-tls"}]'
	@kubectl --namespace kube-system rollout status deployment metrics-server --timeout=3m

chart-package: ## Package the chart into dist/
	@rm -f dist/temporal-fleet-*.tgz
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" helm package deploy/helm/temporal-fleet --destination dist

# Publishing: REGISTRY is host and path, without a scheme. Each push writes what it pushed, by digest, into dist/*.ref.
registry-check:
	@test -n "$(REGISTRY)" || { echo "REGISTRY is empty: nowhere to publish to. Set it to HOST/PATH, in hosted CI as a variable of the repository"; exit 1; }

registry-login: registry-check ## Log in at REGISTRY with REGISTRY_USERNAME and REGISTRY_PASSWORD of the environment
	@printenv REGISTRY_PASSWORD | docker login --username "$$REGISTRY_USERNAME" --password-stdin "$(firstword $(subst /, ,$(REGISTRY)))"

BUILD_ID ?= $(shell $(PYTHON) scripts/build_id.py)
PLATFORMS ?= linux/amd64,linux/arm64
SOURCE ?= $(if $(GITHUB_REPOSITORY),$(GITHUB_SERVER_URL)/$(GITHUB_REPOSITORY))
IMAGE = $(REGISTRY)/fleet-$(WORKLOAD)
# An empty PLATFORMS means the builder's own; the file takes everything from the environment. WORKLOAD=dev-server is the
# image of the dev server, which has a target of its own.
BAKE = BUILD_ID="$(BUILD_ID)" $(if $(filter dev-server,$(WORKLOAD)),,WORKLOADS="$(WORKLOAD)") SOURCE="$(SOURCE)" REVISION="$$(git rev-parse HEAD)" \
	SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)" docker buildx bake

# Either engine will do; BUILD_FLAGS are passed on to its build, EXTRAS name extras of temporal-fleet such as otel.
ENGINE ?= $(notdir $(firstword $(shell command -v docker) $(shell command -v podman)))
BUILT_AT = $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD = $(ENGINE) build $(BUILD_FLAGS) $(if $(filter podman,$(ENGINE)),--timestamp $(BUILT_AT),--build-arg SOURCE_DATE_EPOCH=$(BUILT_AT))
# More than any reference workload needs; what an image adds to its base image is pulled with every new dependency.
MAX_ADDED_MB ?= 60

engine-check:
	@test -n "$(ENGINE)" || { echo "neither docker nor podman is on PATH; install one, or set ENGINE"; exit 1; }

images: engine-check ## Build the image of every workload and the dev server's with docker or podman
	@build_id="$(BUILD_ID)"; for workload in $$($(PYTHON) scripts/workloads.py); do \
		image="fleet-$$workload:$$build_id"; echo "building $$image"; \
		$(BUILD) --build-arg WORKLOAD="$$workload" --build-arg BUILD_ID="$$build_id" --build-arg EXTRAS="$(EXTRAS)" \
			--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" --tag "$$image" . >/dev/null || exit 1; \
	done; \
	image="fleet-dev-server:$$build_id"; echo "building $$image"; $(BUILD) --target dev-server --tag "$$image" . >/dev/null

image-report: engine-check $(STAMP) ## Report sizes and start-up of the images, or of that of WORKLOAD; fails beyond MAX_ADDED_MB
	@build_id="$(BUILD_ID)"; $(BIN)/python scripts/image_report.py --engine $(ENGINE) --max-added-mb $(MAX_ADDED_MB) \
		$$(for workload in $(or $(WORKLOAD),$$($(PYTHON) scripts/workloads.py)); do echo "fleet-$$workload:$$build_id"; done)

image-name:
	@echo "fleet-$(WORKLOAD):$(BUILD_ID)"

image-build: ## Build the image of WORKLOAD for all PLATFORMS, and load that of this machine
	@PLATFORMS="$(PLATFORMS)" $(BAKE) --set "*.output=type=cacheonly" "$(WORKLOAD)"
	@PLATFORMS= $(BAKE) --load "$(WORKLOAD)"

# A build ID is published once: where its tag is there, that image is taken, as another build of the same commit
# would have another digest by its provenance alone. The cache is written here only, never by a pull request.
image-push: registry-check ## Build the image of WORKLOAD for all PLATFORMS and push it to REGISTRY, by digest
	@mkdir -p dist
	@docker buildx imagetools inspect "$(IMAGE):$(BUILD_ID)" --format '{{ .Manifest.Digest }}' >dist/$(WORKLOAD).digest 2>/dev/null || { \
		PLATFORMS="$(PLATFORMS)" $(BAKE) --metadata-file dist/$(WORKLOAD).json --sbom=true --provenance=mode=max \
			--set "*.tags=$(IMAGE)" \
			--set "*.output=type=image,push-by-digest=true,name-canonical=true,push=true,rewrite-timestamp=true" \
			--set "*.cache-from=type=registry,ref=$(IMAGE):cache" \
			--set "*.cache-to=type=registry,ref=$(IMAGE):cache,mode=max" "$(WORKLOAD)" && \
		$(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["$(WORKLOAD)"]["containerimage.digest"])' \
			<dist/$(WORKLOAD).json >dist/$(WORKLOAD).digest; }
	@echo "$(IMAGE)@$$(cat dist/$(WORKLOAD).digest)" | tee dist/$(WORKLOAD).ref

image-sign: ## Sign the pushed image of WORKLOAD, without a key, as whoever runs this
	@cosign sign --yes "$$(cat dist/$(WORKLOAD).ref)"

image-tag: ## Give the pushed image of WORKLOAD its tag, the build ID
	@docker buildx imagetools create --tag "$(IMAGE):$(BUILD_ID)" "$$(cat dist/$(WORKLOAD).ref)"

image-tag-release: ## Give the pushed image of WORKLOAD the tag 1.4.0 of RELEASE=v1.4.0
	@test -n "$(RELEASE)" || { echo "RELEASE is empty. Set it to the tag of the release, such as v1.4.0"; exit 1; }
	@docker buildx imagetools create --tag "$(IMAGE):$(patsubst v%,%,$(RELEASE))" "$$(cat dist/$(WORKLOAD).ref)"

chart-push: registry-check ## Push the packaged chart to REGISTRY
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" helm push $(HELM_PUSH_FLAGS) dist/temporal-fleet-*.tgz "oci://$(REGISTRY)/charts" >dist/chart.log 2>&1 || { cat dist/chart.log; exit 1; }
	@cat dist/chart.log
	@sed -n 's|^Digest: *|$(REGISTRY)/charts/temporal-fleet@|p' dist/chart.log >dist/chart.ref
	@test -s dist/chart.ref || { echo "helm push printed no digest"; exit 1; }

chart-sign: ## Sign the pushed chart, without a key, as whoever runs this
	@cosign sign --yes "$$(cat dist/chart.ref)"

release-publish: ## Create RELEASE=v1.4.0 with its notes and what is in dist/
	@$(PYTHON) scripts/release_notes.py $(RELEASE) >dist/notes.md
	@gh release create "$(RELEASE)" --verify-tag --title "$(RELEASE)" --notes-file dist/notes.md dist/*.tgz dist/*.ref

ci-tools: ## Install what the tests use beside Python packages (Debian and Ubuntu, as root)
	@command -v promtool >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends prometheus >/dev/null; }

bench: $(STAMP) ## Measure worker overhead and start-up against a bare SDK worker
	@$(BIN)/python benchmarks/overhead.py && $(BIN)/python benchmarks/startup.py

stress: $(STAMP) ## Start and drain a worker 200 times; every exit code must be 0
	@$(BIN)/python benchmarks/drain_cycles.py --cycles 200

clean: ## Remove the environment and everything made by runs
	@rm -rf $(VENV) .fleet .cache dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
