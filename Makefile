# make build    bin/mqttetl
# make build-small  bin/mqttetl-small for small devices: stripped, without demo, bench, simulate and Parquet
# make demo     the whole pipeline with simulated devices, DURATION=10s ends it
# make test     all tests, most of them with the race detector, against a real Mosquitto, nats-server and sqlite3
# make test-brokers  the broker table's rows that need npm or a large package, the bench report in Chromium, DuckDB
# make test-cross    builds for arm64 and runs that and the tests of the log under an emulator, 6 minutes; before a release
# make cross    builds bin/mqttetl-small-arm64
# make check    what CI runs: format, vet, staticcheck, govulncheck, make test, fuzzing
# make bench    what each stage costs, into bench/RESULTS.md and the README, 10 minutes
# make bench-rates  what a message costs at 10 to 10,000 a second, into the same files, 15 minutes
# make microbench  Go benchmarks of the parts, for benchstat
# make prove    breaks everything that can break, long; writes docs/reliability.md.
#               CAMPAIGN=kill TRIALS=1 SEED=7 replays; best as root
# make soak     runs under load and faults for SOAK=8h
# make deps     installs the Debian packages that the tests need

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
DURATION ?=
FUZZTIME ?= 20s
SOAK     ?= 10m
CAMPAIGN ?=
TRIALS   ?= 0
SEED     ?= 0

GO      := go
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# Each test binary ends by itself.
TESTTIME := 20m

.PHONY: build build-small demo test test-brokers test-cross cross check bench bench-rates microbench prove soak deps format vet staticcheck vulncheck fuzz clean

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/mqttetl ./cmd/mqttetl

# Where build-small puts it.
SMALL ?= bin/mqttetl-small

build-small:
	$(GO) build -trimpath -tags small -ldflags '-s -w $(LDFLAGS)' -o $(SMALL) ./cmd/mqttetl

demo: build
	bin/mqttetl demo $(if $(DURATION),--duration $(DURATION))

# Without the race detector: a decoder is one goroutine and has limits of memory and time,
# and the others start or measure programs that are built without it.
UNRACED := /batch/decode$$|/bench$$|/test/(prove|e2e|brokers|service)$$

# Two packages at a time: many of them are several processes already, which mostly wait.
test: deps
	$(GO) test -race -p 2 -parallel 4 -timeout $(TESTTIME) $$($(GO) list ./... | grep -vE '$(UNRACED)')
	$(GO) test -p 2 -parallel 4 -timeout $(TESTTIME) $$($(GO) list ./... | grep -E '$(UNRACED)')
	$(GO) test -timeout $(TESTTIME) ./batch/transform -run 'Bomb|TestTemplateOfMany|CannotBeWritten' # as much memory and time as it takes without -race

# Packages of npm, into an ignored directory.
NPM_BROKERS := aedes@1.2.0 ws@8.23.0 @duckdb/node-api@1.5.6-r.1

test-brokers:
	@$(MAKE) --no-print-directory deps NEEDS='$(NEEDS) node:nodejs npm:npm /usr/lib/rabbitmq/bin/rabbitmq-server:rabbitmq-server activemq:activemq /usr/share/java/mqtt-client.jar:libmqtt-client-java ejabberdctl:ejabberd chromium:chromium'
	npm install --no-audit --no-fund --no-package-lock --silent --prefix bin/npm $(NPM_BROKERS)
	$(GO) test -race -timeout $(TESTTIME) -parallel 16 -tags brokers ./test/brokers -run '^Test(MoreBrokers|IdleMinute)$$' -count=1 \
		-args -modules '$(CURDIR)/bin/npm/node_modules'
	$(GO) test -race -timeout $(TESTTIME) -tags brokers ./bench/report -run '^TestHTMLInChromium$$' -count=1
	$(GO) test -race -timeout $(TESTTIME) -tags brokers ./cmd/mqttetl -run '^TestDocumentsWithDuckDB$$' -count=1 -args -modules '$(CURDIR)/bin/npm/node_modules'

# What a build for arm64 needs.
ARM64 := aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross

test-cross:
	@$(MAKE) --no-print-directory deps NEEDS='$(NEEDS) qemu-aarch64:qemu-user $(ARM64)'
	$(GO) test -timeout $(TESTTIME) -tags cross ./test/e2e -run '^Test(Log)?(On)?Arm64$$' -count=1 -v

# The small program for arm64, which takes a minute.
cross:
	@$(MAKE) --no-print-directory deps NEEDS='$(ARM64)'
	GOARCH=arm64 CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc $(MAKE) --no-print-directory build-small SMALL=bin/mqttetl-small-arm64

check: deps format vet staticcheck vulncheck test cross fuzz

bench: deps
	$(GO) run ./bench -readme README.md

bench-rates: deps
	$(GO) run ./bench -rates -cell 20s -readme README.md

microbench:
	$(GO) test -run '^$$' -bench . -benchmem -timeout 15m ./...

# Rows of campaigns that were not chosen stay in the report.
prove: deps
	$(GO) test ./test/prove -run '^TestCampaigns$$' -count=1 -v -timeout 0 -args -prove.long \
		-prove.report '$(CURDIR)/docs' -prove.campaign '$(CAMPAIGN)' -prove.trials $(TRIALS) -prove.seed $(SEED) -prove.soak $(SOAK)

soak:
	$(MAKE) prove CAMPAIGN=soak

format:
	@files=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w:" $$files; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) tool staticcheck ./...

# govulncheck exits 3 when it has found something. When it cannot fetch its
# database nothing has been checked, and that is said, but it is no finding.
vulncheck:
	@out=$$($(GO) tool govulncheck ./... 2>&1); code=$$?; echo "$$out"; \
	if [ $$code -eq 0 ]; then exit 0; fi; \
	if [ $$code -ne 3 ] && echo "$$out" | grep -Eq 'fetching vulnerabilities|vuln\.go\.dev'; then \
		echo '*** NOT CHECKED for known vulnerabilities: the database could not be fetched ***'; exit 0; \
	fi; \
	exit $$code

# go test fuzzes one target at a time: two of them on two processors each finish sooner than in a row.
# A target is fuzzed again when it has failed by nothing but the end of its own
# time: Go before 1.27 now and then takes that for an error (https://go.dev/issue/75804).
fuzz:
	@set -e; targets=$$(for pkg in $$($(GO) list ./...); do \
		$(GO) test -list '^Fuzz' $$pkg | sed -n "s,^Fuzz.*,$$pkg &,p"; \
	done); \
	echo "$$targets" | xargs -P 2 -n 2 sh -ec 'for try in 1 2 3; do \
		echo "fuzz $$0 $$1"; \
		if out=$$($(GO) test -run "^$$" -fuzz "^$$1\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -parallel 2 "$$0" 2>&1); then \
			echo "$$out"; exit 0; \
		fi; \
		echo "$$out"; \
		case "$$out" in *"Failing input"*) exit 1;; *"    context deadline exceeded"*) ;; *) exit 1;; esac; \
	done; exit 1'

# Commands and the Debian packages that hold them.
NEEDS := mosquitto:mosquitto mosquitto_pub:mosquitto-clients nats-server:nats-server \
	sqlite3:sqlite3 strace:strace systemd-analyze:systemd protoc:protobuf-compiler jq:jq curl:curl /usr/lib/python3/dist-packages/paho:python3-paho-mqtt

deps:
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=; \
	for need in $(NEEDS); do \
		command -v $${need%%:*} >/dev/null || [ -e "$${need%%:*}" ] || missing="$$missing $${need##*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ]; then \
		echo "the tests need:$$missing. Install with"; \
		echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$$missing"; \
		exit 1; \
	fi; \
	log=$$(mktemp); \
	if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } >"$$log" 2>&1; \
	then rm -f "$$log"; else cat "$$log"; rm -f "$$log"; exit 1; fi

clean:
	rm -rf bin
