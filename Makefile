# A thin door to cargo, to `cargo run -p xtask` and to the scripts of e2e/cluster and demo. `make` alone lists it.

# Outside the repository, so that fresh clones and a CI cache share what was compiled.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dapr-rust/target
complaint := $(shell CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) .ci/own-target 2>&1 || echo failed)
$(if $(complaint),$(error .ci/own-target: $(complaint)))

SHELL := /bin/bash
xtask := cargo run --quiet --release -p xtask --

.DEFAULT_GOAL := help
.PHONY: help build test lint tidy gen e2e cluster-up cluster-down images chart demo demo-down e2e-cluster bench ci

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

build: ## the programs; with PROFILE=dist as they are published, here and below
	$(xtask) build

test: ## all tests that need no cluster
	@.ci/packages redis-server
	cargo test --release --workspace --exclude e2e
	@$(MAKE) --no-print-directory e2e

# Programs after the tests of their crates, which leave binaries of their own in the same folder; and never in one cargo
# call with the e2e crate: its client SDK switches on another crypto provider of tonic, and cargo gives a crate the features
# of all that are built together.
e2e: build ## the programs as black boxes
	@.ci/packages redis-server
	cargo test --release -p e2e --lib --test it

# In the release profile, like everything here: clippy then takes over the build scripts, the macros and the compiled C
# of AWS-LC and SQLite, which another profile would compile once more (about 90 s of two cores).
lint: ## formatting, clippy, syntax of scripts
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --features e2e/cluster,daprd/allcomponents -- -D warnings
	@for script in .ci/own-target .ci/packages .ci/run demo/up demo/down e2e/cluster/cluster e2e/cluster/suite e2e/cluster/*.sh e2e/cluster/*/*.sh; do bash -n "$$script" || exit 1; done

tidy: ## floors, names, file lengths, quirks, printed files
	$(xtask) tidy

gen: ## print the custom resource definitions and the pages anew
	$(xtask) gen

images: ## an image of each program, without a registry
	@.ci/packages redis-server ca-certificates
	$(xtask) images --samples

chart: ## lint and render the chart
	@PATH="$$(e2e/cluster/cluster tools):$$PATH" && helm lint charts/dapr && helm template dapr charts/dapr --namespace dapr-system >/dev/null

cluster-up: ## a Kubernetes on this machine
	e2e/cluster/cluster up

cluster-down: ## and away with it
	e2e/cluster/cluster down

demo: ## Dapr and two apps on a Kubernetes of this machine
	demo/up

demo-down: ## remove the demo
	demo/down

e2e-cluster: ## the chart on a real Kubernetes
	e2e/cluster/suite

bench: export PROFILE = dist
bench: ## memory, time to ready, added latency; of the programs as they are published, alone and in a Kubernetes
	$(xtask) build
	$(xtask) bench
	demo/up && $(xtask) bench installed; code=$$?; demo/down && exit $$code

ci: ## everything, as on the build machine
	.ci/run
