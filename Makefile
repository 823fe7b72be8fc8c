# `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test coverage check train-tiny clean

BIN := .venv/bin
STAMP := .venv/.installed
SAMPLE := sample_data/nuclei.tif
DEMO := demo_output
PYTEST_ARGS ?=
# each test runs with one thread, so two processes use two cores; a file stays in one process,
# which makes what its tests share once
TEST_PROCESSES ?= 2
DATA ?= $(DINOMASK_DATA)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

install: $(STAMP)  ## install into .venv, with napari and the development tools

$(STAMP): setup.cfg pyproject.toml .ci/install
	.ci/install

demo: install  ## segment a sample: in napari, or without a screen into demo_output/
	@if [[ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" || "$$(uname)" == Darwin ]]; then \
		$(BIN)/napari $(SAMPLE) -w napari-dinomask "Segment"; \
	else \
		mkdir -p $(DEMO); \
		$(BIN)/dinomask segment $(SAMPLE) -o $(DEMO)/nuclei_labels.tif \
			--overlay $(DEMO)/nuclei_overlay.png --overwrite; \
		echo "labels:  $(CURDIR)/$(DEMO)/nuclei_labels.tif"; \
		echo "overlay: $(CURDIR)/$(DEMO)/nuclei_overlay.png"; \
	fi

# the tests start many processes, each of which would compile all it imports where bytecode isn't kept
test: install  ## run the tests on virtual screens (PYTEST_ARGS="-m slow" for others)
	@if [[ "$$(uname)" == Linux ]] && ! command -v Xvfb >/dev/null; then \
		echo "make test: no Xvfb for the windows; run make install as root or install xvfb" >&2; \
		exit 2; \
	fi; \
	env -u QT_QPA_PLATFORM -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest \
		-n $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

coverage:  ## the same, and which lines no test reaches; takes two thirds longer
	$(MAKE) test PYTEST_ARGS="$(PYTEST_ARGS) --cov"

check: install  ## format, lint, types and the contracts between the parts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

train-tiny: install  ## train the bundled model anew, into build/tiny (hours); DATA=the folder of data sets
	$(BIN)/dinomask train "$(DATA)/dsb2018" "$(DATA)/usiigaci" --config configs/tiny_1.toml \
		--out build/tiny_1
	$(BIN)/dinomask train "$(DATA)/dsb2018" "$(DATA)/usiigaci" --config configs/tiny_2.toml \
		--init build/tiny_1 --out build/tiny_2
	$(BIN)/dinomask train "$(DATA)/dsb2018" "$(DATA)/usiigaci" --config configs/tiny_3.toml \
		--init build/tiny_2 --out build/tiny_3
	$(BIN)/dinomask train "$(DATA)/dsb2018" "$(DATA)/usiigaci" --config configs/tiny_4.toml \
		--init build/tiny_3 --out build/tiny_4
	$(BIN)/dinomask train "$(DATA)/dsb2018" "$(DATA)/usiigaci" --config configs/tiny_5.toml \
		--init build/tiny_4 --out build/tiny

clean:  ## remove build outputs and caches; .venv stays
	rm -rf build dist *.egg-info src_model/*.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis .coverage htmlcov $(DEMO)
