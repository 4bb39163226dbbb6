# On a machine with only Python (>= 3.11), git and make: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types bench bench-console bench-remote test-servers clean help

help:
	@echo "make demo    the sample project under the ratchet (console on a terminal, plain lines elsewhere)"
	@echo "make test    all tests            make check   lint, types, tests, as CI runs them"
	@echo "make bench   goals and figures    make clean   remove the environment and the demo"
	@echo "make bench-console   of them, the live console in a terminal, beside htop and another program"
	@echo "make bench-remote    of them, a host over ssh, and simulated fleets of 8 and of 1,024 devices"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ratchet needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[sample,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/ratchet demo .demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks

bench-console: $(STAMP)
	$(BIN)/python -m tests.benchmarks bench_console

bench-remote: $(STAMP)
	$(BIN)/python -m tests.benchmarks bench_remote bench_simulate

# What some tests talk to and skip without, from Debian's packages (as root): other shells for job.sh, tmux,
# sshd and Slurm. RUNLEVEL=1: none of their services is started; the tests start their own, on loopback.
test-servers:
	apt-get update -qq
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		busybox ksh util-linux mount iproute2 tmux openssh-server openssh-client slurm-wlm munge >/dev/null
	mkdir -p -m 755 /run/sshd

clean:
	rm -rf $(VENV) .demo .bench build dist
