# pgtether. `make` alone lists the targets; every target works on a fresh Debian or Ubuntu machine with Go.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
LDFLAGS     := -s -w -X main.version=$(VERSION)
# One set of flags for every program, so that packages they share are compiled once.
GOBUILD     := CGO_ENABLED=0 go build -trimpath

# Flags of the test targets. Two packages at a time: most of them run PostgreSQL servers of their own. The timeout ends hangs only.
TESTFLAGS ?= -p 2 -timeout 30m
FUZZTIME  ?= 20s
BENCHTIME ?= 1s

.PHONY: help
help: ## list the targets (this text)
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install what is missing for build and tests (PostgreSQL, npm, Java, Patroni, repmgr, HAProxy, PgBouncer; says what it installs)
	@scripts/setup.sh test

.PHONY: build
build: ## one static binary: bin/pgtether
	$(GOBUILD) -ldflags "$(LDFLAGS)" -o bin/pgtether ./cmd/pgtether

.PHONY: demo
demo: build ## the main job, told with numbers: a real pair, the proxy, a change of writer; leaves nothing behind
	@scripts/setup.sh lab && $(GOBUILD) -o .cache/bin/demo ./test/demo && exec .cache/bin/demo -pgtether bin/pgtether

.PHONY: lab
lab: build ## the same pair and proxy, with faults on demand, until Ctrl-C
	@scripts/setup.sh lab && exec bin/pgtether lab --proxy

.PHONY: keycloak
keycloak: build ## Keycloak through pgtether: boot, realm, users, login, refresh, logout (KEEP=1 stays up)
	@$(GOBUILD) -o .cache/bin/keycloak ./test/keycloak && KEEP=$(KEEP) scripts/keycloak.sh

.PHONY: keycloak-failover
keycloak-failover: build ## the primary is killed under Keycloak: errors, stalls, what still holds (FAILOVER=async|sync|both)
	@$(GOBUILD) -o .cache/bin/keycloak ./test/keycloak && FAILOVER=$(or $(FAILOVER),both) scripts/keycloak.sh

.PHONY: keycloak-switchover
keycloak-switchover: build ## the writer is changed N times under Keycloak: errors, stalls, sessions kept, what still holds (N=2)
	@$(GOBUILD) -o .cache/bin/keycloak ./test/keycloak && SWITCHOVERS=$(or $(N),2) scripts/keycloak.sh

.PHONY: test
test: setup ## all fast tests, those on real PostgreSQL included
	go test $(TESTFLAGS) ./...

.PHONY: race
race: ## the same under the race detector, but for suites that only drive a built binary
	@scripts/setup.sh test race
	CGO_ENABLED=1 go test -race $(TESTFLAGS) $$(go list ./... | grep -vE '/test/(failover|follow|faults|runbooks)$$')

.PHONY: faults faults-gray faults-rto faults-switchover switchovers switchovers-moving
faults: build ## random faults on real pairs, every promise checked (SEED=, N=3, SYNC=1)
	@scripts/setup.sh lab && $(GOBUILD) -o .cache/bin/faults ./test/faults && exec .cache/bin/faults -seed $(or $(SEED),0) -n $(or $(N),3) $(if $(SYNC),-sync)

faults-gray: build ## faults that must not lead to a promotion, each N times (nightly: N=20)
	@scripts/setup.sh lab && $(GOBUILD) -o .cache/bin/faults ./test/faults && exec .cache/bin/faults -gray -n $(or $(N),1)

faults-rto: build ## kill -9 under load, N times: how long until the first acknowledged write (SYNC=1)
	@scripts/setup.sh lab && $(GOBUILD) -o .cache/bin/faults ./test/faults && exec .cache/bin/faults -rto -seed $(or $(SEED),0) -n $(or $(N),20) $(if $(SYNC),-sync)

faults-switchover: build ## switchovers ordered under load, most of them disturbed, every promise checked (SEED=, N=30, SYNC=1)
	@scripts/setup.sh lab && $(GOBUILD) -o .cache/bin/faults ./test/faults && exec .cache/bin/faults -switchovers -seed $(or $(SEED),0) -n $(or $(N),30) $(if $(SYNC),-sync)

# What the switchover targets pass on: POOL connections of a JDBC pool, PGBENCH clients of pgbench, CONTINUITY=off for sessions that end.
SWITCHOVER_FLAGS = $(if $(SYNC),-sync) $(if $(CONTINUITY),-continuity $(CONTINUITY)) $(if $(POOL),-pool $(POOL)) $(if $(PGBENCH),-pgbench $(PGBENCH))

switchovers: build ## switchovers there and back under 32 TPC-B clients and a JDBC pool (N=20, SYNC=1, POOL=20, PGBENCH=32, CONTINUITY=off; needs Java, Maven)
	@scripts/setup.sh lab keycloak && $(GOBUILD) -o .cache/bin/switchover ./test/switchover && exec .cache/bin/switchover -n $(or $(N),20) $(SWITCHOVER_FLAGS)

switchovers-moving: ## 50 of them, with a JDBC pool of 50 and 32 clients of pgbench -M prepared: no client may notice one (N=50, SYNC=1)
	@$(MAKE) --no-print-directory switchovers N=$(or $(N),50) POOL=$(or $(POOL),50) PGBENCH=$(or $(PGBENCH),32)

.PHONY: histories
histories: ## random sessions are moved and compared with their unmoved twins (N=5000; for the night)
	go test -count=1 -timeout 4h -v -run TestAMoved ./internal/continuity ./proxy -histories=$(or $(N),5000)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each (default 20s)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: mutants
mutants: ## seed bugs into the decision engine, one at a time, and name the test that catches each (five minutes)
	go run ./test/mutants

.PHONY: drivers
drivers: build ## drivers' own test suites, directly and through pgtether (an hour; fetches them; SUITES=pgx,lib/pq,...)
	@scripts/setup.sh test drivers
	@test/drivers/run.sh $(if $(SUITES),-suites $(SUITES))

.PHONY: bench
bench: ## benchmarks of the forwarding path, direct and through the proxy (BENCHTIME=1s)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./bench/...

# What make bench-peers passes on, when given; PEERS may name pgtether-loops, pgtether-goroutines and, with
# BEFORE=binary, pgtether-before; HAPROXY and PGBOUNCER other builds.
PEERS_FLAGS = $(if $(WORKLOADS),-workloads $(WORKLOADS)) $(if $(CLIENTS),-clients $(CLIENTS)) $(if $(PEERS),-peers $(PEERS)) $(if $(BEFORE),-before $(BEFORE)) \
  $(if $(ROWS),-rows $(ROWS)) $(if $(COPY_MIB),-copy-mib $(COPY_MIB)) $(if $(IDLE),-idle $(IDLE)) $(if $(HAPROXY),-haproxy $(HAPROXY)) $(if $(PGBOUNCER),-pgbouncer $(PGBOUNCER))

.PHONY: bench-peers
bench-peers: build ## beside HAProxy, PgBouncer, io.Copy and no proxy: half an hour, report in bench/results (ROUNDS=10 SECONDS=3 ROWS=1000 WORKLOADS=select,tpcb,...)
	@scripts/setup.sh peers && $(GOBUILD) -o .cache/bin/peers ./bench/peers && \
	  exec .cache/bin/peers -pgtether bin/pgtether -rounds $(or $(ROUNDS),10) -seconds $(or $(SECONDS),3) $(PEERS_FLAGS)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, the house rules
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  [ -z "$$unformatted" ] || { printf 'not formatted, run gofmt -w on:\n%s\n' "$$unformatted" >&2; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go test ./internal/archtest

.PHONY: check
check: ## exactly what CI runs
	.ci/run

.PHONY: docker
docker: ## the images pgtether:latest and pgtether:trial, with docker, podman or buildah
	@scripts/docker.sh

.PHONY: clean
clean: ## remove what was built and fetched (bin/, .cache/)
	rm -rf bin .cache
