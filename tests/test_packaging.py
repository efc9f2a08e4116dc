"""pyproject.toml and environment.yml name the same packages; importing geoseg is light;
the commands that the pages show are there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
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


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown(page: Path) -> list[list[str]]:
    """The words of each ``geoseg ...`` line in a page's blocks of shell commands."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith("geoseg ") and not any(mark in line for mark in ("|", "&", ">", "..."))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_are_understood(page: Path) -> None:
    from geoseg.cli import geoseg

    for words in shown(page):
        command: click.Command = geoseg
        context = click.Context(geoseg)
        rest = list(words)
        while isinstance(command, click.Group) and rest:
            found = command.get_command(context, rest.pop(0))
            assert found is not None, words
            command = found
        if "--help" not in rest:
            command.make_context(" ".join(words), rest)


def test_the_label_line_of_the_readme_works(tmp_path: Path, monkeypatch) -> None:
    from geoseg.cli import geoseg

    [words] = [words for words in shown(ROOT / "README.md") if words[0] == "label"]
    shutil.copy(ROOT / "geoseg" / "data" / "demo" / "java_west_s2l2a.tif", tmp_path / "scene.tif")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(geoseg, words)
    assert done.exit_code == 0, done.output
    assert {"labels.gpkg", "labels.qgz"} <= {path.name for path in tmp_path.iterdir()}
