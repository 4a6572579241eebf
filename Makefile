# demo · test · lab · reproduce · readme · html; each sets up .venv by itself
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lab reproduce readme html
.DEFAULT_GOAL := demo

.venv/.ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "adq needs Python 3.11 or newer; call make PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --no-compile --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $@

# compress the embedded digits by random, DQ, ADQ, ADQ with patches dropped and CCS, train on each and on all
demo: .venv/.ready
	$(BIN)/adq compare digits --profile demo --methods random dq adq adq+drop ccs ccs-probe full --out out/demo --force

# every notebook, then what no lesson shows; tests/test_in_step.py compares adq/ and README.md with their notebooks
test: .venv/.ready
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2 --do-print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lab: .venv/.ready
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" nbs/index.ipynb

# the paper's tables, figures and claims: make reproduce PROFILE=smoke
PROFILE ?= laptop
reproduce: .venv/.ready
	$(BIN)/adq reproduce all --profile $(PROFILE)

# README.md from nbs/index.ipynb, its links seen from the top folder
readme: .venv/.ready
	$(BIN)/jupyter nbconvert nbs/index.ipynb --to markdown --no-input --stdout --log-level ERROR \
		| sed -E -e 's#\]\(((foundations|method|tools|evidence|results)/)#](nbs/\1#g' -e 's#\]\(\.\./#](#g' \
		| cat -s > README.md.new
	mv README.md.new README.md

# every notebook as a web page, with links among them: open site/index.html
html: .venv/.ready
	rm -rf site
	$(BIN)/python -c 'from adq.webpage import build_site; print(build_site(".", "site"), "pages in site/")'
