# PYTHON=...     another interpreter than python3, for a .venv that is not there yet
# DEMO_ARGS=...  handed to `harpoon demo`;  TEST_ARGS=...  to pytest;  SOAK_ARGS=...  to tests/soak.py
# CHAOS_RUNS=... seeded runs of `make chaos`, 500 unless it is given

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --quiet --disable-pip-version-check
# Directories too: their times tell that a file was deleted.
SOURCES := pyproject.toml ffi_build.py $(shell find csrc engine bench -name __pycache__ -prune -o -print)
C_FILES := $(wildcard csrc/[!_]*.c bench/[!_]*.c tests/c/*.c tests/fuzz/*.c tests/preload/*.c)
C_FLAGS = -std=c11 -D_GNU_SOURCE -O2 -Icsrc $$(pkg-config --cflags liburing openssl)
C_WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Werror
MAKE_SELF := @$(MAKE) --silent --no-print-directory

.NOTPARALLEL:
.PHONY: help demo test asan fuzz valgrind chaos soak clean system system-test

help:
	@echo 'make demo    install what is missing, then run `harpoon demo $$DEMO_ARGS` on loopback'
	@echo 'make test    install what is missing, then C warnings, ruff, mypy and pytest $$TEST_ARGS'
	@echo 'make asan    the tests again, with AddressSanitizer and UBSan in the C library'
	@echo 'make fuzz    fuzz the parsers and the book file, $$FUZZ_S seconds each (300)'
	@echo 'make valgrind  run the C tests under valgrind'
	@echo 'make chaos   $$CHAOS_RUNS seeded runs (500) with faults and kill -9; goes on where it stopped'
	@echo 'make soak    twelve simulated hours in as many minutes: `tests/soak.py $$SOAK_ARGS`'
	@echo 'make clean   remove .venv, build and every cache'

demo: system
	$(MAKE_SELF) $(VENV)/installed
	@$(BIN)/harpoon demo $(DEMO_ARGS)

test: system-test
	$(MAKE_SELF) $(VENV)/tools $(VENV)/installed
	@for cc in gcc clang; do \
	    echo "$$cc $(C_WARNINGS)"; \
	    printf '%s\n' $(C_FILES) | \
	        xargs -P 2 -n 1 $$cc $(C_FLAGS) $(C_WARNINGS) -S -o /dev/null || exit 1; \
	done
	@awk 'length($$0) > 100 { print FILENAME ":" FNR ": longer than 100 columns"; bad = 1 } \
	    END { exit bad }' $(C_FILES) $(wildcard csrc/*.h bench/*.h)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/pytest -n auto $(TEST_ARGS)

# The sanitized extension lies beside a copy of the package, found before the installed one. Python's
# own allocator is switched off: it would hide reads past the end of a bytes object. The reports go
# to files because pytest keeps what a dying test printed.
REPORT := $(CURDIR)/build/asan/report
asan: system-test
	$(MAKE_SELF) $(VENV)/tools $(VENV)/installed
	@echo 'Building with AddressSanitizer and UBSan'
	@rm -rf build/asan && mkdir -p build/asan
	@cp -R engine build/asan/engine && cp -R bench build/asan/harpoon_bench
	@HARPOON_SANITIZE=address,undefined $(BIN)/python ffi_build.py --out build/asan >/dev/null
	@LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" \
	    ASAN_OPTIONS="detect_leaks=0:log_path=$(REPORT)" PYTHONMALLOC=malloc \
	    UBSAN_OPTIONS="print_stacktrace=1:log_path=$(REPORT)" \
	    PYTHONPATH="$(CURDIR)/build/asan" $(BIN)/pytest -n auto $(TEST_ARGS) || \
	    { cat $(REPORT).* 2>/dev/null; exit 1; }

FUZZ_S ?= 300
fuzz: system-test
	$(MAKE_SELF) $(VENV)/installed
	@$(BIN)/python tests/native.py fuzz $(FUZZ_S)

valgrind: system-test
	@$(BIN)/python tests/native.py valgrind

# Seeds that have passed are not run again until something is built anew or the runs are others.
CHAOS_RUNS ?= 500
CHAOS_PASSED := build/chaos/passed
chaos: system-test
	$(MAKE_SELF) $(VENV)/tools $(VENV)/installed $(CHAOS_PASSED)
	@$(BIN)/python tests/chaos.py --runs $(CHAOS_RUNS) --passed $(CHAOS_PASSED)

$(CHAOS_PASSED): $(VENV)/installed $(wildcard tests/chaos*.py)
	@mkdir -p $(@D) && : >$@

soak: system
	$(MAKE_SELF) $(VENV)/installed
	@$(BIN)/python tests/soak.py $(SOAK_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

system:
	@.ci/setup

system-test:
	@.ci/setup test

# Python files that setuptools copied earlier go: one deleted since would be installed again.
$(VENV)/installed: $(SOURCES)
	@echo 'Building and installing harpoon'
	@if [ -d build ]; then find build/lib* -type f ! -name '*.so' -delete; fi
	@$(PIP) install .
	@touch $@

# The list of the extra, not `.[dev]`, which would build the package once more.
$(VENV)/tools: pyproject.toml
	@echo 'Installing the tools for the tests'
	@$(BIN)/python -c 'import tomllib; project = tomllib.load(open("$<", "rb"))["project"]; \
	    print(*project["optional-dependencies"]["dev"], sep="\n")' >$@.txt
	@$(PIP) install --requirement $@.txt
	@touch $@
