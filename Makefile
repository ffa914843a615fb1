# Two commands set everything up: `make demo` and `make test`. Both build .venv first when it is absent or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Two files of tests at a time: each starts a Ray of its own, and waits for it much of the time. In the order of their
# names, for by number of tests the longest would come last.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check clean

demo: $(VENV)/ready
	$(BIN)/lgsid demo --out runs/demo

test: $(VENV)/ready check
	$(BIN)/pytest tests $(SIDE_BY_SIDE)

check: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch goes first and pinned: asked for by a dependent, pip would bring the CUDA build to a machine without a GPU.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("lgsid_ray needs Python 3.11 or newer; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
