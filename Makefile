# Sightline. `make` lists the targets. Each brings the machine to the state it needs (scripts/setup.sh) and then does
# one thing; ARGS goes to the program that it runs. Recipes of more than a few lines are in scripts/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ARGS ?=
FUZZTIME ?= 10s
FOOTAGE ?=
OUTPUT_DIR ?= models/person

ENV := . scripts/env.sh

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## cameras, broker, model and console on this machine: make demo ARGS="--for 60s"
	@scripts/setup.sh demo
	@scripts/build.sh sightline
	@$(ENV); exec bin/sightline up --config deploy/demo/sightline.yaml $(ARGS)

.PHONY: build
build: ## bin/: sightline and every service
	@scripts/setup.sh build
	@scripts/build.sh

.PHONY: test
test: ## every test: Go with the race detector, the trainer's Python, the Node examples; ARGS goes to go test
	@scripts/setup.sh test
	@scripts/test.sh $(ARGS)

.PHONY: lint
lint: ## golangci-lint over every module, tidy go.mod files, shellcheck
	@scripts/setup.sh lint
	@scripts/lint.sh

.PHONY: fmt
fmt: ## format the Go code (gofumpt, gci)
	@scripts/setup.sh lint
	@scripts/lint.sh fmt

.PHONY: tidy
tidy: ## go mod tidy in every module, and the table of licences
	@scripts/setup.sh build
	@scripts/lint.sh tidy

.PHONY: bench
bench: ## measure on this machine: make bench ARGS="--cameras 8"; FastestDet too where the reference data is
	@scripts/setup.sh bench
	@scripts/build.sh sightline
	@$(ENV); other="$${SIGHTLINE_SHARED_DATA:-../shared/data}/models/FastestDet.onnx"; \
	if [[ "$(ARGS)" != *--model* && -f $$other ]]; then set -- --model person --model "$$other"; fi; \
	exec bin/sightline bench "$$@" $(ARGS)

.PHONY: chaos
chaos: ## faults on real processes, up to 15 minutes: make chaos ARGS="--only kill-infer --seed 7"
	@scripts/setup.sh chaos
	@scripts/chaos.sh $(ARGS)

.PHONY: drift-scenarios
drift-scenarios: ## faults and disturbed pictures on cameras, what is found and how soon: ARGS="--only frozen,black"
	@scripts/setup.sh demo
	@scripts/build.sh drift-scenarios
	@$(ENV); exec bin/drift-scenarios $(ARGS)

.PHONY: images
images: ## container images of every service, and keys for development: make images ARGS="infer"
	@scripts/setup.sh containers
	@scripts/images.sh $(ARGS)

.PHONY: images-offline
images-offline: ## where no registry can be reached: the base images, from Debian packages and Go sources
	@scripts/setup.sh containers
	@scripts/images-offline.sh $(ARGS)

.PHONY: sbom
sbom: ## what each image contains: bin/sbom/*.cdx.json
	@scripts/setup.sh containers
	@scripts/sbom.sh $(ARGS)

.PHONY: e2e
e2e: ## the images and the compose file from end to end, in containers: make e2e ARGS="-test.run TestE2E/world/kill"
	@scripts/setup.sh containers
	@scripts/e2e.sh $(ARGS)

.PHONY: dashboards
dashboards: ## every expression of the Grafana dashboards against a running demo: none may be empty
	@scripts/setup.sh demo dashboards
	@scripts/build.sh sightline
	@$(ENV); scripts/dashboards.sh $(ARGS)

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@scripts/setup.sh build
	@scripts/fuzz.sh "$(FUZZTIME)"

.PHONY: generate
generate: ## go generate in every module
	@scripts/setup.sh build
	@$(ENV); go list -m -f '{{.Dir}}' | while IFS= read -r dir; do go -C "$$dir" generate ./...; done

.PHONY: model
model: ## train the demo's model: make model FOOTAGE=file.avi OUTPUT_DIR=models/person ARGS="--steps 400"
	@scripts/setup.sh model
	@$(ENV); footage="$(FOOTAGE)"; \
	services/trainer/make_model.sh "$${footage:-$${SIGHTLINE_FOOTAGE%/*}/vtest.avi}" "$(OUTPUT_DIR)" $(ARGS)

.PHONY: env
env: ## what to export for a plain go build and go test: eval "$(make env)"
	@$(ENV); export -p | grep -E '^declare -x (GOFLAGS|SIGHTLINE_(ORT_LIBRARY|FOOTAGE))=' | sed 's/^declare -x/export/'

.PHONY: clean
clean: ## remove what was built here; the cache outside the repository stays
	@rm -rf bin
	@$(ENV); echo "removed bin; set-up's cache stays: $$sightline_cache"
