"""pyproject.toml and environment.yml name the same packages; importing geoseg is light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from rattler import MatchSpec

ROOT = Path(__file__).parents[1]

CONDA_NAMES = {"torch": "pytorch"}
"""Where conda-forge has another name than PyPI."""


def pyproject_requirements() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for requirement in project["dependencies"]:
        name, _, bound = requirement.partition(">=")
        found[CONDA_NAMES.get(name, name)] = bound
    return found


def test_conda_environment_names_the_same_packages() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    specs = [MatchSpec(line) for line in environment["dependencies"] if isinstance(line, str)]
    found = {spec.name.normalized: str(spec.version or "") for spec in specs}
    assert found.pop("python") == ">=3.11"
    found.pop("pip")
    assert set(found) == set(pyproject_requirements())
    for name, bound in pyproject_requirements().items():
        assert found[name] == f">={bound}", name


def test_importing_geoseg_loads_neither_torch_nor_dask() -> None:
    code = (
        "import sys, geoseg; print(sorted({'torch', 'dask', 'odc', 'rasterio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_no_heavy_module() -> None:
    code = (
        "import sys\nfrom geoseg.cli import geoseg\n"
        "try:\n    geoseg(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'dask', 'odc', 'rasterio', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "README.md", "CHANGELOG.md"])
def test_the_files_of_a_project_are_there(name: str) -> None:
    assert (ROOT / name).read_text().strip()
