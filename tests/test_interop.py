"""geoseg among other programs: rio, dask, the shell, xarray, notebooks."""

from __future__ import annotations

import base64
import html.parser
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from test_export_raster import class_map, grid
from test_export_vector import HOSTILE, LEGEND

from geoseg.cli import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.engine.thumbnail import picture_of, png_of
from geoseg.export.raster import write_raster

BIN = Path(sys.executable).parent


def run(*arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("group", "program"), [("rasterio.rio_plugins", "rio"), ("dask_cli", "dask")]
)
def test_rio_and_dask_have_geoseg_as_a_verb(tmp_path: Path, group: str, program: str) -> None:
    assert [e.load() for e in entry_points(group=group, name="geoseg")] == [geoseg]
    write_raster(class_map(9, 9), tmp_path / "scene.tif", geobox=grid(9, 9))
    out = run(BIN / program, "geoseg", "info", tmp_path / "scene.tif")
    assert "9 rows x 9 cols" in out
    done = subprocess.run(
        [BIN / program, "geoseg", "info", tmp_path / "none.tif"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("geoseg: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs_and_options(shell: str) -> None:
    script = run(BIN / "geoseg", _GEOSEG_COMPLETE=f"{shell}_source")
    assert "_GEOSEG_COMPLETE" in script and "geoseg" in script
    words = {"COMP_WORDS": "geoseg poly", "COMP_CWORD": "1"}
    if shell == "fish":
        words["COMP_CWORD"] = "poly"
    assert "polygonize" in run(BIN / "geoseg", _GEOSEG_COMPLETE=f"{shell}_complete", **words)
    words = {"COMP_WORDS": "geoseg map --min", "COMP_CWORD": "--min" if shell == "fish" else "2"}
    assert "--min-area" in run(BIN / "geoseg", _GEOSEG_COMPLETE=f"{shell}_complete", **words)


@pytest.mark.parametrize("words", ["map sce", "map -o sce", "info sce", "polygonize sce"])
def test_tab_finds_files(words: str) -> None:
    place = {"COMP_WORDS": f"geoseg {words}", "COMP_CWORD": str(len(words.split()))}
    assert run(BIN / "geoseg", _GEOSEG_COMPLETE="bash_complete", **place) == "file,sce\n"


def test_the_bash_script_completes_in_bash() -> None:
    code = (
        'eval "$(_GEOSEG_COMPLETE=bash_source geoseg)"; COMP_WORDS=(geoseg polyg); COMP_CWORD=1; '
        '_geoseg_completion geoseg; echo "${COMPREPLY[@]}"'
    )
    out = run("bash", "-c", code, PATH=f"{BIN}:{os.environ['PATH']}")
    assert out.split() == ["polygonize"]


def commands(group: click.Group, name: str) -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert command is not None
        inner = commands(command, f"{name} {verb}") if isinstance(command, click.Group) else []
        found += inner or [(f"{name} {verb}", command)]
    return found


def test_every_verb_has_help_with_an_example() -> None:
    for name, command in commands(geoseg, "geoseg"):
        done = CliRunner().invoke(geoseg, [*name.split()[1:], "--help"], terminal_width=200)
        assert done.exit_code == 0, name
        lines = [line.strip() for line in done.output.splitlines()]
        assert any(line.startswith(f"{name} ") or line == name for line in lines), name
        assert "\\b" not in done.output, name
        for one in command.params:
            assert isinstance(one, click.Argument) or getattr(one, "help", ""), (name, one.name)
        given = {option for p in command.params for option in p.opts}
        examples = [line for line in lines if line.startswith(f"{name} ")]
        for line in examples:  # an example uses options that are there
            assert {w.partition("=")[0] for w in line.split() if w.startswith("--")} <= given, line


def a_map() -> SegmentMap:
    ids = class_map(40, 60)
    return SegmentMap.from_arrays(ids, grid(40, 60), LEGEND)


def test_xarray_has_the_crs_that_rioxarray_and_odc_read(tmp_path: Path) -> None:
    import odc.geo.xr  # noqa: F401
    import rioxarray  # noqa: F401

    made = a_map()
    data = made.to_xarray()
    assert data["category_id"].rio.crs.to_epsg() == 32721
    assert data.rio.transform() == made.geobox.affine
    assert data["category_id"].odc.geobox == made.geobox
    assert isinstance(made.geobox, GeoBox)
    assert data["category_id"].rio.encoded_nodata == 255 or data["category_id"].rio.nodata == 255
    np.testing.assert_array_equal(data["category_id"].values, made.category_id)
    data["category_id"].rio.to_raster(tmp_path / "x.tif")
    import rasterio

    with rasterio.open(tmp_path / "x.tif") as file:
        np.testing.assert_array_equal(file.read(1), made.category_id)
        assert file.crs.to_epsg() == 32721 and file.transform == made.geobox.affine


class Reader(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_map_itself() -> None:
    from rasterio.io import MemoryFile

    ids = np.array([[0, 1, 255], [7, 7, 254]], "uint8")
    with MemoryFile(png_of(ids, LEGEND)) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read(1), ids)
        for category in LEGEND:
            assert file.colormap(1)[category.id] == (*category.rgb, 255)
        assert file.colormap(1)[255][3] == file.colormap(1)[254][3] == 0
    # every third pixel of a large map, whatever the strips it is read in
    large = np.random.default_rng(0).integers(0, 2, (1075, 700)).astype("uint8")
    objects = np.ones(large.shape, "uint32")
    objects[:, 300:] = 2
    made = SegmentMap.from_arrays(large, grid(*large.shape), LEGEND, instance_id=objects)
    text = picture_of(made).partition("base64,")[2].partition("'")[0]
    with MemoryFile(base64.b64decode(text)) as memory, memory.open() as file:
        shown = file.read(1)
    wanted = large[::3, ::3].copy()
    wanted[:, 99] = 255  # between two objects
    np.testing.assert_array_equal(shown, wanted)


def test_notebooks_show_maps_plans_and_scenes(tmp_path: Path) -> None:
    from geoseg.pipeline import RunOptions, prepare
    from geoseg.scene.opening import open_scene

    shown = Reader(a_map()._repr_html_())
    assert {"table", "img"} <= shown.tags and not shown.tags & {"script", "b"}
    assert HOSTILE in shown.text
    path = tmp_path / "a <b> scene.tif"
    write_raster(class_map(40, 60), path, geobox=grid(40, 60))
    scene = open_scene(str(path))
    plan = Reader(prepare(scene, "otsu:b1", RunOptions()).plan._repr_html_())
    assert "table" in plan.tags and "a <b> scene.tif" in plan.text
    assert "60" in Reader(scene._repr_html_()).text


NOTEBOOK = """
import geoseg
scene = geoseg.open_scene({scene!r})
with geoseg.progress_bar() as bar:
    made = geoseg.segment(scene, "otsu:b1", progress=bar, workers=-1)
made
"""


def test_a_notebook_shows_a_bar_and_a_table(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    write_raster(class_map(600, 600), tmp_path / "scene.tif", geobox=grid(600, 600))
    code = NOTEBOOK.format(scene=str(tmp_path / "scene.tif"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = book.cells[0].outputs
    kinds = [out.output_type for out in outputs]
    assert kinds == ["display_data", "execute_result"], outputs  # a bar, not lines
    assert "<progress value='100.0'" in outputs[0].data["text/html"]
    assert "<table>" in outputs[-1].data["text/html"]


def test_elsewhere_progress_is_lines() -> None:
    code = "import geoseg; print(type(geoseg.progress_bar()).__name__)"
    assert run(sys.executable, "-c", code).strip() == "LineProgress"
