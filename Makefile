# Sets up and runs. Uses the active virtual environment, or makes .venv; PYTHON chooses the interpreter for it.
#   make demo    the whole job on photographs that scikit-image ships
#   make test    the tests
# PIP_FLAGS goes to every pip call, TORCH to the one that installs PyTorch, e.g. a CPU-only build:
#   make demo TORCH='torch torchvision --index-url https://download.pytorch.org/whl/cpu'

PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV := $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
TORCH ?= torch torchvision
PIP := "$(BIN)/python" -m pip install --disable-pip-version-check -q $(PIP_FLAGS)
STAMP := $(VENV)/.diffrwkvir-is-set-up

.PHONY: demo test setup
demo: setup
	"$(BIN)/basicsr" demo

test: setup
	"$(BIN)/python" -m pytest

setup: $(STAMP)

# BasicSR comes as source only and asks for PyTorch to build itself: --no-build-isolation lets it do without.
$(STAMP): setup.py pyproject.toml
	test -x "$(BIN)/python" || $(PYTHON) -m venv "$(VENV)"
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) $(TORCH)
	$(PIP) --no-build-isolation 'basicsr>=1.4.2'
	$(PIP) --no-build-isolation -e '.[test]'
	touch "$@"
