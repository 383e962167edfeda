# What a person and CI type. `make deps` installs Debian packages that are missing; nothing else here changes the
# computer outside of this folder and the cache folder.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tug
# Where cargo builds.
BUILT := $(or $(CARGO_TARGET_DIR),target)
PROGRAM := target/release/tug
VENV := $(CACHE)/venv
PYTHON := $(VENV)/bin/python
PREFIX := /usr/local
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
# To build with: C compiler, linker, libseccomp to link in. To test with: Python and what looks at links and processes.
PACKAGES := gcc libc6-dev libseccomp-dev make mold pkg-config \
	ca-certificates iproute2 nftables openssl procps python3 python3-venv strace util-linux

.PHONY: start stop deps build check test bench install

start: deps build
	$(SUDO) $(PROGRAM) start

stop:
	$(SUDO) $(PROGRAM) stop

deps:
	@missing=; for package in $(PACKAGES); do \
		dpkg-query --show --showformat='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || \
			missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq -y --no-install-recommends $$missing; \
	fi

build:
	cargo build --locked --release
	@[ $(BUILT) -ef target ] || install -D $(BUILT)/release/tug $(PROGRAM)

check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

test: check $(VENV)/ready
	PATH="$$($(PYTHON) tests/debian.py):$$PATH" cargo test --locked --workspace
	$(MAKE) --no-print-directory build
	$(PYTHON) -m pytest tests/e2e

bench: build $(VENV)/ready
	$(PYTHON) bench/run.py

install: build
	$(SUDO) install -D $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/tug

# Changed requirements make it anew.
$(VENV)/ready: tests/e2e/requirements.txt
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement $<
	@touch $@
