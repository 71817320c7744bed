# Sets up and runs. Uses the active virtual environment, or makes .venv; PYTHON chooses the interpreter for it.
#   make demo    the whole job on photographs that scikit-image ships
#   make test    the tests
# PIP_FLAGS goes to every pip call, TORCH to the one that installs PyTorch, e.g. a CPU-only build:
#   make demo TORCH='torch torchvision --index-url https://download.pytorch.org/whl/cpu'

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10; do $$p -c '' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
TORCH ?= torch torchvision
PIP := "$(BIN)/python" -m pip install --disable-pip-version-check -q $(PIP_FLAGS)
# Per checkout, because an active environment may serve several.
STAMP := $(VENV)/.diffrwkvir-$(shell pwd | cksum | cut -d' ' -f1)
# Before PyTorch is downloaded, which pip does before it looks at the version that this package asks for.
TOO_OLD := import sys; sys.exit(sys.version_info < (3, 10) and sys.executable + " is too old, Python 3.10 to 3.13 is \
	needed: make PYTHON=python3.12, say, in no active environment and with no .venv here")

.PHONY: demo test setup install
demo: setup
	"$(BIN)/basicsr" demo

test: setup
	"$(BIN)/python" -m pytest

# No target of make may have a space in its name, as the path of an environment may.
setup:
	@test "$(STAMP)" -nt setup.py && test "$(STAMP)" -nt pyproject.toml || $(MAKE) --no-print-directory install

# Debian's venv fails half made where python3-venv is missing; uv's environments come without pip.
# BasicSR comes as source only and asks for PyTorch to build itself: --no-build-isolation lets it do without.
install:
	@if test -x "$(BIN)/python"; then "$(BIN)/python" -c '$(TOO_OLD)'; else $(PYTHON) -c '$(TOO_OLD)'; fi
	test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)" || { rm -f "$(BIN)/python"; exit 1; }
	"$(BIN)/python" -m pip --version > /dev/null 2>&1 || "$(BIN)/python" -m ensurepip
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) $(TORCH)
	PYTHONPATH="$(CURDIR)/python313" $(PIP) --no-build-isolation 'basicsr>=1.4.2'
	$(PIP) --no-build-isolation -e '.[test]'
	touch "$(STAMP)"
