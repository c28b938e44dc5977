# make demo    runs callbackd with a private Postgres and a Jumio stand-in
# make test    all tests, with the race detector
# make chaos   the chaos suite in full, about fifteen minutes: kills, outages, failovers under load; erasures killed at every place
# make fuzz    every fuzz target for 30 seconds each; FUZZTIME=10m for longer
# make lint    golangci-lint, govulncheck, and actionlint for .github/workflows
# make build   the static binary, bin/callbackd
# make deploy-test  runs what is in deploy with the programs that read it: Compose on
#              a Docker engine, nginx, HAProxy, Prometheus, systemd, Kubernetes' validation
# make docs    writes the generated tables of the documentation; a test says when
# make screenshot  draws docs/dashboard.png, ten minutes
# make bench   the benchmark, twenty minutes; SHORT=1: about two minutes
# make release archives, checksums and bills of materials in dist/
#
# demo and test install PostgreSQL from the system's packages if none is found and
# DATABASE_URL is not set. test also installs nginx, HAProxy, psql, psycopg, Chromium,
# and a C compiler for the race detector.

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
ACTIONLINT_VERSION := v1.7.12
CYCLONEDX_GOMOD_VERSION := v1.10.0
KUSTOMIZE_VERSION := v5.8.1
KUBECTL_VALIDATE_VERSION := v0.0.4

# Directories are named after versions, so a new version is installed beside the old one.
GOLANGCI_LINT := .tools/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
GOVULNCHECK := .tools/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
ACTIONLINT := .tools/actionlint-$(ACTIONLINT_VERSION)/actionlint
CYCLONEDX_GOMOD := .tools/cyclonedx-gomod-$(CYCLONEDX_GOMOD_VERSION)/cyclonedx-gomod
KUSTOMIZE := .tools/kustomize-$(KUSTOMIZE_VERSION)/kustomize
KUBECTL_VALIDATE := .tools/kubectl-validate-$(KUBECTL_VALIDATE_VERSION)/kubectl-validate

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)"
RELEASE_TARGETS := linux_amd64 linux_arm64 darwin_amd64 darwin_arm64

.PHONY: build demo test chaos deploy-test docs fuzz lint bench screenshot release

build:
	$(BUILD) -o bin/callbackd ./cmd/callbackd

# More flags: make demo DEMO_FLAGS=--once
demo:
	@echo 'Build      bin/callbackd; the first time, Go downloads and compiles all of it'
	@$(MAKE) --no-print-directory --silent build
	@echo 'Postgres   looking for its programs'
	@sh .ci/need.sh postgres
	@./bin/callbackd demo $(DEMO_FLAGS)

test:
	@sh .ci/need.sh postgres compiler loadbalancers consumers browser
	@sh .ci/test.sh

# Its short version is part of test. More flags: make chaos CHAOS_FLAGS=-chaos.seed=42
chaos:
	@DATABASE_URL= sh .ci/need.sh postgres compiler
	CGO_ENABLED=1 go test -race -count=1 -timeout 30m -v -run '^Test(Chaos|Erasure)' ./internal/processtest -chaos.full $(CHAOS_FLAGS)

# Each test prints what it checked.
deploy-test: $(KUSTOMIZE) $(KUBECTL_VALIDATE)
	@DATABASE_URL= sh .ci/need.sh postgres loadbalancers prometheus systemd docker
	@sh .ci/base-images.sh
	@sh .ci/systemd-image.sh
	go test -count=1 -v -run '^Test(Nginx|HAProxy|UndeclaredProxy|Upgrade)' ./internal/processtest
	PATH="$(CURDIR)/$(dir $(KUSTOMIZE)):$(CURDIR)/$(dir $(KUBECTL_VALIDATE)):$$PATH" \
		go test -tags deploy -count=1 -timeout 60m -v ./internal/deploytest

# The ledger of docs/reliability.md: make chaos CHAOS_FLAGS=-chaos.docs
docs:
	@sh .ci/need.sh postgres
	go test -count=1 -run '^Test(Docs|Questions)$$' ./internal/config ./internal/store -update
	go test -count=1 -run '^TestMonitoringNames$$' ./internal/deploytest -update

FUZZTIME ?= 30s

fuzz:
	@sh .ci/need.sh postgres
	@sh .ci/fuzz.sh $(FUZZTIME)

# It always starts its own cluster. More flags: make bench BENCH_FLAGS='-only start'
bench:
	@DATABASE_URL= sh .ci/need.sh postgres wrk
	go run ./bench $(if $(SHORT),-short) $(BENCH_FLAGS)

# A bad day, recorded by a real Prometheus and drawn from its answers to queries.
screenshot:
	@DATABASE_URL= sh .ci/need.sh postgres prometheus chromium
	go test -tags deploy -count=1 -timeout 30m -v -run '^TestMonitoringPrometheus$$' ./internal/deploytest -monitoring.day=12 -monitoring.screenshot=$(CURDIR)/docs/dashboard.png

DIST ?= dist

# Uncommitted changes show as -dirty in the version.
release: $(CYCLONEDX_GOMOD)
	rm -rf "$(DIST)" bin/release
	set -e; for target in $(RELEASE_TARGETS); do \
		GOOS=$${target%_*} GOARCH=$${target#*_} $(BUILD) -o bin/release/$$target/callbackd ./cmd/callbackd; done
	@sh .ci/release.sh $(CYCLONEDX_GOMOD) "$(DIST)" "$(VERSION)"

# Without these options actionlint would run shellcheck and pyflakes where they happen to be installed.
lint: $(GOLANGCI_LINT) $(GOVULNCHECK) $(ACTIONLINT)
	$(GOLANGCI_LINT) run --allow-serial-runners ./...
	$(ACTIONLINT) -shellcheck= -pyflakes= .github/workflows/*.yml
	@sh .ci/vulncheck.sh $(GOVULNCHECK)

$(GOLANGCI_LINT):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(GOVULNCHECK):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

$(ACTIONLINT):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)

$(CYCLONEDX_GOMOD):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_GOMOD_VERSION)

$(KUSTOMIZE):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION)

$(KUBECTL_VALIDATE):
	GOBIN="$(CURDIR)/$(@D)" CGO_ENABLED=0 go install sigs.k8s.io/kubectl-validate@$(KUBECTL_VALIDATE_VERSION)
