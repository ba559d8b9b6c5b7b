# SPDX-License-Identifier: Apache-2.0
# A thin front for Meson. `make demo` and `make test` work on a fresh Debian 12: each installs what is
# missing (by apt, asking for root only then), builds, shows progress and ends with a plain result.

BUILD ?= build
PREFIX ?= /usr/local

.PHONY: all demo demo-rpc test bench install deb lint sanitize format gate clean deps-build deps-test deps-bench deps-lint deps-deb

all: deps-build
	@scripts/build.sh $(BUILD) $(PREFIX)

demo: all
	@scripts/deps.sh demo
	@scripts/demo.sh $(BUILD)

demo-rpc: all
	@scripts/demo-rpc.sh $(BUILD)

test: deps-test all
	@scripts/test.sh $(BUILD)

bench: deps-bench all
	@scripts/bench.sh $(BUILD)

gate: deps-test all
	@bench/gate.sh $(BUILD)

install: all
	@meson install -C $(BUILD) --no-rebuild

deb: deps-deb
	@packaging/deb.sh $(BUILD)

lint: deps-lint all
	@scripts/lint.sh $(BUILD)

sanitize: deps-test all
	@scripts/sanitize.sh $(BUILD)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD)

deps-build:
	@scripts/deps.sh build
deps-test:
	@scripts/deps.sh build demo test
deps-bench:
	@scripts/deps.sh build demo bench
deps-lint:
	@scripts/deps.sh build demo lint
deps-deb:
	@scripts/deps.sh build deb
