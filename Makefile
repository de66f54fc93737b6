# Two commands: `make reproduce` and `make test`. Both set up .venv first, once, from pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
PINS = constraints-py$$("$(BIN)/python" -c 'import sys; print("311" if sys.version_info < (3, 12) else "312")').txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: reproduce test test-core lint docs tour bench faults fuzz clean
.DELETE_ON_ERROR:

reproduce: $(READY)
	@"$(BIN)/python" -m kd.cli reproduce hinton2015-digits

test: $(READY)
	@"$(BIN)/python" -m pytest -n 2 --dist loadfile

# What depends on the versions of JAX and Python: for a second stack, where the whole takes long.
CORE = $(addsuffix .py,$(addprefix tests/test_,ambient average bucket_checkpoint buckets checkpoint checkpoint_writes cli config \
	each_loss export fit_input heads hugging_face identity imports kept_answers layer_pairs layers lease losses members_by metrics \
	models modules names objective optim outputs plan_command positions predict pretrained readme resume rng saved schedules \
	sharding soft_labels step stream taps targets teacher tensors train user_code vit))

test-core: $(READY)
	@"$(BIN)/python" -m pytest -n 2 --dist loadfile $(CORE)

lint: $(READY)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" "$(BIN)/pyright"

# The search of the site works where it is served: python -m http.server --directory site
docs: $(READY)
	@"$(BIN)/python" -c 'import mkdocs_jupyter, mkdocstrings_handlers.python' 2>/dev/null || \
		"$(BIN)/python" -m pip install -q -e '.[docs]' -c $(PINS)
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/python" -m mkdocs build --quiet --strict
	@echo "$(CURDIR)/site/index.html"

tour: $(READY)
	"$(BIN)/python" -m tests.tour

bench: $(READY)
	"$(BIN)/python" -m pip install -q torch==2.13.0
	"$(BIN)/python" -m bench.run
	"$(BIN)/python" -m bench.report

faults: $(READY)
	"$(BIN)/python" -m tests.faults --record

fuzz: $(READY)
	"$(BIN)/python" -m tests.fuzz --record

# Python 3.11 has pins of its own: newer jax does not support it.
$(READY): pyproject.toml constraints-py311.txt constraints-py312.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kd needs Python 3.11 or newer; try: make PYTHON=python3.12" >&2; exit 2; }
	@echo "setting up $(VENV) from pinned versions; this takes a minute or two, once"
	@"$(PYTHON)" -m venv "$(VENV)"
	@"$(BIN)/python" -m pip install --use-pep517 -e '.[dev]' -c $(PINS)
	@touch "$(READY)"

clean:
	rm -rf "$(VENV)"
