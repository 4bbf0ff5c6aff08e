# `make run` serves the shop and `make test` tests it. Both first install what is missing.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# To run some tests only: make test ARGS="-k twins"
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test check lint bench soak shots lock verify-stripe FORCE

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

run: .venv/base ## serve the shop on http://127.0.0.1:8000 (PORT changes the port), with its bank
	@exec $(BIN)/python -m setup.run

test: .venv/ready ## run every test, on SQLite, PostgreSQL and in a browser
	@$(BIN)/python -m setup.postgres >/dev/null
	@$(BIN)/python -m setup.redis >/dev/null
	@$(BIN)/python -m setup.proxies >/dev/null
	@$(BIN)/python -m setup.iproute2 >/dev/null
	@$(BIN)/python -m setup.failover >/dev/null
	@$(BIN)/python -m setup.promtool >/dev/null
	@$(BIN)/python -m setup.chromium >/dev/null
	@echo "Testing on SQLite, PostgreSQL and in Chromium ..."
	@exec $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup $(ARGS)

check: lint ## lint, check types, and run the quick tests on SQLite (about a minute)
	@echo "Testing on SQLite ..."
	@exec $(BIN)/python -m pytest -q -n $(WORKERS) -m "not postgres and not browser and not slow" $(ARGS)

lint: .venv/ready ## check format, style, security, types and templates
	@echo "Linting (ruff, mypy, djlint) ..."
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/djlint --quiet --lint templates lab/templates sandbox_bank/templates

bench: .venv/ready ## measure the speed on PostgreSQL, compared with a naive handler (some minutes)
	@$(BIN)/python -m setup.postgres >/dev/null
	@echo "Measuring (several rounds, interleaved) ..."
	@exec $(BIN)/python -m tests.bench $(ARGS)

soak: .venv/ready ## run the long tests that are too slow for `make test`
	@$(BIN)/python -m setup.postgres >/dev/null
	@$(BIN)/python -m setup.iproute2 >/dev/null
	@$(BIN)/python -m setup.failover >/dev/null
	@$(BIN)/python -m setup.proxies >/dev/null
	@echo "Running the long tests ..."
	@exec $(BIN)/python -m tests.soak $(ARGS)

shots: .venv/ready ## take screenshots of the main pages, light and dark, at three widths, into instance/shots
	@$(BIN)/python -m setup.chromium >/dev/null
	@echo "Taking screenshots ..."
	@exec $(BIN)/python -m tests.browser.shots $(ARGS)

verify-stripe: .venv/ready ## check against Stripe itself, with a test key in STRIPE_SECRET_KEY
	@exec $(BIN)/python -m tests.stripe.verify

lock: .venv/ready ## compile requirements/*.in into pinned, hashed *.txt (UPGRADE=1 takes newer versions)
	@echo "Compiling requirements ..."
	@for name in base dev postgres patroni; do \
		$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
			$(if $(UPGRADE),--upgrade) $$(case $$name in postgres|patroni) echo --no-deps;; esac) \
			-o requirements/$$name.txt requirements/$$name.in || exit 1; done

# Always run: setup.venv compares contents, not times, so it notices a moved folder or a changed pin.
.venv/base .venv/ready: FORCE
	@test -n "$(PYTHON)" || { echo "PayOnce needs Python 3.11 or newer (python3)."; exit 1; }
	@$(PYTHON) -m setup.venv $(if $(filter %base,$@),base,dev)
