# A thin door to cargo, to the chores of crates/xtask and to the scripts of e2e/cluster and demo. `make` alone lists it.

# Outside the repository, so that fresh clones and a CI cache share what was compiled.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dapr-rust/target
complaint := $(shell CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) .ci/own-target 2>&1 || echo failed)
$(if $(complaint),$(error .ci/own-target: $(complaint)))

SHELL := /bin/bash
xtask := .ci/xtask
# What tests start, as Debian packages. A family of components that is tested against another server adds it here.
servers := redis-server mosquitto rabbitmq-server etcd-server

.DEFAULT_GOAL := help
.PHONY: help build servers test fuzz lint tidy gen e2e cluster-up cluster-down images chart demo demo-down e2e-cluster exchange bench ci

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

build: ## the programs; with PROFILE=dist as they are published, here and below
	$(xtask) build

servers: ## install what tests start, if it is missing
	@.ci/packages $(servers)
	@e2e/sdk/install

test: servers ## all tests that need no cluster, crate by crate
	$(xtask) test

fuzz: ## each reader of outside bytes for a minute, or FUZZ_SECONDS
	FUZZ_SECONDS=$${FUZZ_SECONDS:-60} $(xtask) test fuzz -- --nocapture

e2e: servers ## only the programs as black boxes
	$(xtask) test e2e

# In the release profile and with the selection of packages of all else (EVERYTHING in crates/xtask/src/programs.rs): clippy
# then takes over the build scripts, the macros and the compiled C of AWS-LC and SQLite, which another profile would
# compile once more (about 90 s of two cores).
lint: ## formatting, clippy, syntax of scripts
	cargo fmt --all --check
	cargo clippy --release --workspace --no-default-features --features daprd/allcomponents,e2e/cluster,e2e/exchange --all-targets -- -D warnings
	@for script in .ci/* demo/up demo/down e2e/sdk/install e2e/cluster/cluster e2e/cluster/suite e2e/cluster/*.sh e2e/cluster/*/*.sh; do bash -n "$$script" || exit 1; done

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

exchange: export DAPR_E2E_OTHER_DAPRD_PATH = $(DAPRD)
exchange: export DAPR_E2E_OTHER_SCHEDULER_PATH = $(SCHEDULER)
exchange: servers ## what another build of Dapr has stored goes on with ours, and back: DAPRD=path SCHEDULER=path
	$(xtask) test --suite exchange

bench: export PROFILE = dist
bench: export COMPONENTS = allcomponents
bench: servers ## memory, time to ready, latency and CPU of calls, state and events; as they are published, alone and in a Kubernetes
	$(xtask) build
	$(xtask) bench
	demo/up && $(xtask) bench installed; code=$$?; demo/down && exit $$code

ci: ## everything, as on the build machine
	.ci/run
