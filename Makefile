# Everything from a clean clone: each target installs and builds what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

STAMPS  := build/stamps
TOOLKIT := build/toolkit
TS      := $(shell find orchestrator criu policies e2e -name '*.ts' 2>/dev/null)
NATIVE  := $(shell find native -type f 2>/dev/null)
WORKLOADS := $(wildcard e2e/workloads/src/*)
# Unit tests that need a Docker; elsewhere they would only be skipped.
DOCKER_TESTS := $(shell grep -rl --include='*.test.ts' FTCTL_TEST_DOCKER orchestrator criu policies e2e)
N ?= 100

.PHONY: help deps native build workloads demo test test-unit test-docker test-native test-soft-dirty test-e2e bench campaign lab lab-down \
        install lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

deps: $(STAMPS)/packages node_modules/.package-lock.json ## what the project needs from Debian and npm

# The script looks at what is there, so a stamp from another machine's checkout does no harm beyond a second's check.
$(STAMPS)/packages: scripts/deps.sh
	@scripts/deps.sh
	@mkdir -p $(@D) && touch $@

node_modules/.package-lock.json: package-lock.json | $(STAMPS)/packages
	npm ci --no-audit --no-fund
	@touch $@

native: $(STAMPS)/native ## the C programs, in build/bin and build/lib
$(STAMPS)/native: $(NATIVE) | $(STAMPS)/packages
	$(MAKE) -C native all
	@mkdir -p $(@D) && touch $@

workloads: $(STAMPS)/workloads
$(STAMPS)/workloads: $(WORKLOADS) e2e/workloads/Makefile | $(STAMPS)/packages
	$(MAKE) -C e2e/workloads all
	@mkdir -p $(@D) && touch $@

dist/.built: $(TS) tsconfig.json node_modules/.package-lock.json
	npx tsc -p tsconfig.json
	@touch $@

$(TOOLKIT)/manifest.json: criu/toolkit.json dist/.built
	node dist/criu/toolkit-main.js $(TOOLKIT)
	@touch $@

build: dist/.built native workloads $(TOOLKIT)/manifest.json ## everything, ready to run

lab: build ## bring the lab up
	./bin/ftlab up

lab-down: dist/.built ## remove the lab
	./bin/ftlab down

demo: build ## redis survives the power loss of its host, before your eyes, in both modes
	node dist/e2e/demo/main.js

test: test-native test-unit test-docker test-e2e ## every test there is

test-unit: build ## TypeScript, without Docker
	npx vitest run $(addprefix --exclude ,$(DOCKER_TESTS))

test-docker: build ## TypeScript on real Dockers, in a lab of its own
	e2e/lab/docker-tests.sh $(DOCKER_TESTS)

test-native: build ## C, under the address and undefined-behaviour sanitizers
	$(MAKE) -C native test

test-soft-dirty: build ## memory on a kernel without write protection: minutes, in a virtual machine
	node dist/criu/old-kernel/main.js

test-e2e: build ## real Docker, real CRIU, real faults
	e2e/lab/smoke.sh
	node dist/e2e/runner/main.js

bench: build ## performance, side by side; writes e2e/out/bench.json
	node dist/e2e/bench/main.js
	node dist/e2e/bench/memory.js

campaign: build ## N random faults: make campaign N=100 [MODE=hybrid WORKLOAD=redis]
	node dist/e2e/campaign/main.js --runs $(N)

install: build ## ftctl and its service on this host
	scripts/install.sh

lint: node_modules/.package-lock.json ## style and suspicious code
	node_modules/@biomejs/cli-linux-*/biome ci .

clean: ## remove what was built; keeps the lab and its caches
	rm -rf build dist node_modules e2e/out
