# `make` prints what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export CGO_ENABLED ?= 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS := $(CURDIR)/.tools
LINT := $(TOOLS)/golangci-lint-2.15.0
GO_FILES = $(shell git ls-files '*.go' | grep -v '^thrift/gen/')
HADOOP := integration/hadoop
# every process of the lab is ended by its pid, whatever became of the tests
LAB = trap '$(HADOOP)/hdfs-down -w >/dev/null 2>&1 || true' EXIT; $(HADOOP)/hdfs-fetch; export HDFS_BASE_PORT=auto
# the suite that every kind of cluster passes, on a cluster of one DataNode and one of three
UP = $(HADOOP)/hdfs-up
SITE = -p dfs.datanode.max.transfer.threads=4096 -p dfs.blocksize=4194304
REAL = n1=$$($(UP) N1 -n 1 $(SITE)); n2=$$($(UP) N2 -n 3 $(SITE)); \
  TWINSCRIBE_N1=$$n1 TWINSCRIBE_N2=$$n2 $(INTEGRATION) -timeout 10m ./store/hdfs; $(HADOOP)/hdfs-down -w
INTEGRATION = go test -tags integration -count=1 -p 1
# the packages with proofs of which $(1) is what follows TestProve in their names
packages = $$(git grep --untracked -lE '^func TestProve$(1)\(t' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's:^:./:')

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/twinscribe, one static binary
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/twinscribe ./cmd/twinscribe

.PHONY: demo
demo: build ## start it, send lines, break n1, then n2, heal, read all back, print the books
	@integration/demo/demo bin/twinscribe

.PHONY: unit
unit: ## unit and contract tests
	go vet ./...
	go test ./...
	go test -tags failpoints ./failpoint

.PHONY: integration
integration: build ## short forms of the proofs, on real NameNodes and DataNodes (installs Java and Maven as root on Debian)
	$(LAB); $(REAL); $(INTEGRATION) -short -timeout 60m ./integration/dropin $(call packages,.*)

.PHONY: dropin
dropin: build ## in the place of Scribe, in full: docs/dropin.md; no Hadoop, about 15 minutes
	$(INTEGRATION) -v -timeout 60m ./integration/dropin

.PHONY: test
test: unit integration ## everything there is to test, short form; under 20 minutes on 2 cores

.PHONY: check
check: fmt-check lint unit ## before a commit: no JVM, under 2 minutes with warm caches

.PHONY: race
race: ## unit and contract tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./...

# Runs the proofs of which $(1) is what follows TestProve in their names, wherever they are, and prints their rows as a table.
define run_proofs
@mkdir -p .lab; status=0; ($(LAB); $(2) \
  $(INTEGRATION) -v -timeout 120m -run '^TestProve$(1)$$' $(call packages,$(1))) 2>&1 | tee .lab/prove.log || status=$$?; echo; integration/table <.lab/prove.log; exit $$status
endef

.PHONY: prove
prove: build ## the engine under every fault: numbers 1 to 10 of docs/reliability.md, their figures in one table; under 100 minutes
	$(call run_proofs,[0-9].*,)

.PHONY: prove-named
prove-named: build ## the proofs that have a name and no number, and the suite on real HDFS; about 25 minutes
	$(call run_proofs,[A-Z].*,$(REAL);)

PROOFS := $(shell git grep --untracked -hoE '^func TestProve[A-Za-z0-9]*' -- '*_test.go' | cut -c15- | sort -V)
.PHONY: $(addprefix prove-,$(PROOFS))
$(addprefix prove-,$(PROOFS)): prove-%: build ## one proof, as prove-Outage; `make proofs` lists them
	$(call run_proofs,$*,)

# what the engine is attacked with, a number each: docs/reliability.md
NUMBERS := 1 2 3 4 5 6 7 8 9 10
.PHONY: $(addprefix prove-,$(NUMBERS))
$(addprefix prove-,$(NUMBERS)): prove-%: build ## all proofs of one number of docs/reliability.md
	$(call run_proofs,$*[A-Z].*,)

.PHONY: proofs
proofs: ## the names of the proofs
	@printf 'make prove-%s\n' $(PROOFS)

.PHONY: prove-fresh
prove-fresh: ## both README commands in a fresh clone, under an account made for it (root)
	integration/fresh/fresh

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (60s)
	FUZZTIME=$${FUZZTIME:-60s} go test -tags integration -count=1 -v -timeout 0 -run '^TestProve7Fuzz$$' ./integration

.PHONY: fuzz-night
fuzz-night: ## the same for a night: 40 minutes each, about 8 hours in all on 2 cores
	@FUZZTIME=$${FUZZTIME:-40m} $(MAKE) --no-print-directory fuzz

.PHONY: bench
bench: build ## what the server costs from end to end, beside a floor: a report with plots in BENCH_REPORT (.lab/performance); about 15 minutes
	$(LAB); export BENCH_REPORT=$(abspath $(or $(BENCH_REPORT),.lab/performance)); \
	  $(INTEGRATION) -v -timeout 90m -run '^TestReport$$' ./integration/bench

.PHONY: bench-parts
bench-parts: ## benchmarks of the packages, for benchstat
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: lint
lint: $(LINT) ## linters
	$(LINT) run ./...

$(LINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $(LINT)

.PHONY: fmt
fmt: ## format the sources
	gofmt -w $(GO_FILES)

.PHONY: fmt-check
fmt-check:
	@out=$$(gofmt -l $(GO_FILES)); [ -z "$$out" ] || { echo "not formatted (make fmt): $$out"; exit 1; }

.PHONY: generate
generate: ## Thrift code from the IDL (needs the thrift compiler)
	go generate ./thrift/...

.PHONY: docs
docs: ## the pages that are generated from the code
	go test ./conf -run TestDocumentation -update
	go test ./daemon -run TestTheOperationsPageListsEveryMetric -update

.PHONY: clean
clean: ## what was built, and the lab's processes and data
	$(HADOOP)/hdfs-down -w || true
	rm -rf bin .lab
