"""Where verbs write: said before any work, and whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from geoseg.cli import geoseg
from geoseg.errors import OutputError
from geoseg.export.target import written_beside

DATA = Path(__file__).parent / "data" / "classic"

VERBS = {
    # the output's option, and what it is called
    "areas no.tif no.gpkg -o": "a.csv",
    "terrain no.tif -o": "a.csv",
    "zones no.tif no.gpkg -o": "a.json",
    "change no.tif no.tif -o": "a.csv",
    "change no.tif no.tif --map": "a.tif",
    "count no.gpkg --cell 5 -o": "a.gpkg",
    "fields no.gpkg -o": "a.gpkg",
    "fields no.gpkg --observed 2021-07-01 --fiboa": "a.parquet",
    "weeds no.gpkg -o": "a.gpkg",
    "weeds no.gpkg --stand": "a.csv",
    "weeds no.gpkg --taskdata": "a.zip",
    "weeds no.gpkg --shapefile": "a.shp",
    "evaluate no.tif no.tif --json": "a.json",
    "evaluate no.tif no.tif --picture": "a.png",
    "sample no.tif -o": "a.gpkg",
    "polygonize no.tif -o": "a.gpkg",
    "rethreshold no.zarr -t a=1 -o": "a.zarr",
    "train no.tif --labels no.gpkg --report": "a.html",
}


def call(*words: object) -> Result:
    return CliRunner().invoke(geoseg, [str(word) for word in words])


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_is_none_is_said_before_inputs_are_read(verb: str, tmp_path: Path) -> None:
    words = [*verb.split(), tmp_path / "none" / VERBS[verb]]
    if verb.startswith("train"):
        words += ["--out", tmp_path / "model.zip"]
    done = call(*words)
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "there is no folder" in done.output and VERBS[verb] in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "evaluate" not in verb])
def test_what_is_there_is_kept(verb: str, tmp_path: Path) -> None:
    there = tmp_path / VERBS[verb]
    there.write_text("precious")
    words = [*verb.split(), there]
    if verb.startswith("train"):
        words += ["--out", tmp_path / "model.zip"]
    done = call(*words)
    assert done.exit_code == 2 and "exists already" in done.output
    assert there.read_text() == "precious"


def test_folders_of_a_person_are_never_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.zarr"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    naip = DATA / "naip.tif"
    given = ("map", naip, "-m", "threshold:b1>100", "-q", "--overwrite")
    for words in (
        (*given, "-o", mine),
        (*given, "-o", tmp_path / "a.tif", "--store", mine),
        ("train", naip, "--labels", "no.gpkg", "--out", mine, "--overwrite"),
        ("rethreshold", "no.zarr", "-t", "a=1", "-o", mine, "--overwrite"),
    ):
        done = call(*words)
        assert done.exit_code == 2 and done.output.count("\n") == 1, words
        assert "mine.zarr" in done.output
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zarr"]


def test_a_full_disk_is_called_so(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no space is left"),
        written_beside(tmp_path / "a.csv", suffixes=(".csv",)),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OutputError, match="of another kind"),
        written_beside(tmp_path / "a.csv", suffixes=(".csv",)),
    ):
        raise OSError(errno.EIO, "of another kind")
    assert not list(tmp_path.iterdir())
