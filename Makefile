# What one does with this repository. `make run` needs Rust, a C compiler and make; everything else says what it misses.
.DEFAULT_GOAL := build

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
DAEMON := $(TARGET)/debug/pattern-launcher
EXAMPLES := $(basename $(notdir $(wildcard examples/*.rs)))
LIBRARY_EXAMPLES := basic_launch embedded_launcher isolation_levels metrics_monitoring
# cargo-nextest where it is installed: quicker, and its groups keep the heavy tests apart.
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)

.PHONY: build run samples test chaos test-cgroup2 test-short test-coverage examples fmt lint bench dev ci

## build: the daemon, and the program of the sample pattern where its manifest looks for it
build:
	$(CARGO) build --bins --example hello
	@mkdir -p patterns/hello/bin
	@# Replaced by rename and only when it differs: a running daemon never sees half a program, nor a change that is none.
	@cmp -s $(TARGET)/debug/examples/hello patterns/hello/bin/hello || { \
		cp $(TARGET)/debug/examples/hello patterns/hello/bin/.hello.new && \
		mv -f patterns/hello/bin/.hello.new patterns/hello/bin/hello; }

## samples: declares the samples that need a program of the machine, where the machine has it
samples:
	@mkdir -p desired/local
	@if command -v python3 >/dev/null; then cp desired/static-files.yaml.example desired/local/static-files.yaml; \
	else rm -f desired/local/static-files.yaml; echo "python3 is not installed: leaving static-files out"; fi

## run: the daemon on the samples in patterns/ and desired/; RUN_FLAGS adds to its command line
run: build samples
	@exec $(DAEMON) run --profile development --patterns-dir patterns --desired-dir desired $(RUN_FLAGS)

## test: everything
test:
ifdef NEXTEST
	$(CARGO) nextest run --all-features
	$(CARGO) test --quiet --doc --all-features
else
	$(CARGO) test --all-features
endif

## chaos: kills the daemon and its spawner a thousand times among a hundred instances; CHAOS_SEED repeats a run
chaos:
	$(CARGO) build --examples
	CHAOS_KILLS=$${CHAOS_KILLS:-1000} $(CARGO) test --all-features --test e2e chaos_alone -- --nocapture

## test-cgroup2: the tests of cgroups and limits on an emulated machine that has cgroup v2 alone: about three minutes
test-cgroup2:
	bash .ci/cgroup2

## test-short: what needs no daemon: a few seconds
test-short:
ifdef NEXTEST
	$(CARGO) nextest run --all-features --lib --test architecture
else
	$(CARGO) test --all-features --lib --test architecture
endif

## test-coverage: an HTML report, by cargo-llvm-cov
test-coverage:
	@command -v cargo-llvm-cov >/dev/null || { \
		echo "test-coverage needs cargo-llvm-cov: cargo install cargo-llvm-cov --locked, and rustup component add llvm-tools" >&2; exit 1; }
	$(CARGO) llvm-cov --all-features --html

## examples: builds the examples, asks each for its usage, and runs those that end by themselves
examples:
	$(CARGO) build --examples --all-features
	@set -e; for name in $(EXAMPLES); do $(TARGET)/debug/examples/$$name --help; echo; done
	$(TARGET)/debug/examples/log_flooder --lines 3 --seconds 0
	$(TARGET)/debug/examples/memory_hog --mib 1 --seconds 0
	@set -e; for name in $(LIBRARY_EXAMPLES); do echo "== $$name"; timeout 60 $(TARGET)/debug/examples/$$name; done

## fmt: formats the sources
fmt:
	$(CARGO) fmt

## lint: formatting, clippy and the documentation, all of them without a warning
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --all-features --quiet

## bench: what the daemon costs, beside a bare posix_spawn loop
bench:
	$(CARGO) build --release $(addprefix --example ,sleeper hello flaky hog memory_hog log_flooder)
	$(CARGO) bench --bench loop

## dev: format, lint, test
dev: fmt lint test

## ci: what is run on every submission
ci:
	bash .ci/run
