# The two commands of the README; everything else is for people who work on geoseg.
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs clean

demo: $(STAMP)
	$(VENV)/bin/geoseg demo --overwrite

test: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest -n 2 --dist loadfile

docs: $(STAMP)
	$(PYTHON) -m pip install -q -e '.[docs]'
	$(VENV)/bin/mkdocs build --strict

$(STAMP): pyproject.toml
	python3 -c 'import sys; sys.exit("geoseg needs Python 3.11 or later, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install -q --upgrade pip
	$(PYTHON) -m pip install -q -e '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo build site *.egg-info
