"""Probabilities kept with a map: layers as files, thresholds changed afterwards."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import geoseg
from geoseg.cli import geoseg as cli
from geoseg.engine.segmentmap import SegmentMap
from geoseg.models.catalogue import load_model
from geoseg.models.thresholds import apply_thresholds
from geoseg.scene.arrays import from_array

DEMO = resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"
RUN = {"threads": 1, "workers": -1, "tile_size": 128, "block_tiles": 1}


@pytest.fixture(scope="module")
def crop() -> geoseg.Scene:
    whole = geoseg.open_scene(str(DEMO))
    pixels, _ = whole.read(geoseg.Window(200, 40, 110, 140))
    names = [band.name for band in whole.bands]
    box = whole.geobox[200:310, 40:180]
    return from_array(pixels, crs="EPSG:32749", transform=box.affine, bands=names)


@pytest.fixture(scope="module")
def kept(crop: geoseg.Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "map.zarr"
    model = load_model("terrain", {"layers": ["probs", "entropy"]})
    geoseg.map_scene(crop, model, [str(path)], geoseg.RunOptions(**RUN))
    return path


def test_layers_do_not_change_the_map_and_add_up(crop: geoseg.Scene, kept: Path) -> None:
    found = SegmentMap.open(str(kept))
    plain = geoseg.segment(crop, "terrain", **RUN)
    np.testing.assert_array_equal(found.category_id, plain.category_id)
    assert found.layers == ("entropy", *(f"prob_{i}" for i in range(9)))
    levels = np.stack([found.read(names=(f"prob_{i}",))[f"prob_{i}"] for i in range(9)])
    assert np.abs(levels.astype(int).sum(0) - 254).max() <= 5  # each is rounded
    np.testing.assert_array_equal(levels.max(0), found.score)


def test_no_threshold_gives_the_map_back(kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "same.zarr"
    done = CliRunner().invoke(cli, ["rethreshold", str(kept), "-t", "built=0", "-o", str(out)])
    assert done.exit_code == 0, done.output
    before, after = SegmentMap.open(str(kept)), SegmentMap.open(str(out))
    # two classes may share a level where their probabilities differ
    assert (before.category_id == after.category_id).mean() > 0.999
    np.testing.assert_array_equal(before.score, after.score)


def test_thresholds_on_a_map_are_those_of_predicting(crop, kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "strict.tif"
    arguments = ["rethreshold", str(kept), "-t", "built=0.6", "-t", "crops=0.5", "-o", str(out)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    model = load_model("terrain", {"thresholds": {"built": 0.6, "crops": 0.5}})
    wanted = geoseg.segment(crop, model, **RUN).category_id
    with rasterio.open(out) as file:
        found = file.read(1)
    assert (found == wanted).mean() > 0.997  # levels are a 254th apart
    assert (wanted != SegmentMap.open(str(kept)).category_id).any()


def test_layers_become_files_that_read_as_probabilities(kept: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["layers", str(kept), "-o", str(tmp_path), "--layer", "prob_built", "--layer", "entropy"]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.glob("*.tif")) == ["entropy.tif", "prob_built.tif"]
    with rasterio.open(tmp_path / "prob_built.tif") as file:
        assert (file.nodata, file.scales[0]) == (255, pytest.approx(1 / 254))
        np.testing.assert_array_equal(
            file.read(1), SegmentMap.open(str(kept)).read(names=("prob_6",))["prob_6"]
        )


def test_probabilities_are_one_file_with_a_band_per_class(kept: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["layers", str(kept), "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.glob("*.tif")) == [
        "entropy.tif",
        "probs.tif",
        "score.tif",
    ]
    given = SegmentMap.open(str(kept))
    with rasterio.open(tmp_path / "probs.tif") as file:
        assert file.descriptions == tuple(category.name for category in given.legend)
        assert (file.count, set(file.dtypes), file.nodata) == (9, {"uint8"}, 255)
        assert file.scales == (pytest.approx(1 / 254),) * 9
        for band, category in enumerate(given.legend, 1):
            name = f"prob_{category.id}"
            np.testing.assert_array_equal(file.read(band), given.read(names=(name,))[name])
    from rio_cogeo import cog_validate

    assert cog_validate(tmp_path / "probs.tif")[0]


def test_the_command_writes_layers_beside_its_map(tmp_path: Path) -> None:
    """Blended, too: a layer is what the labels were read from."""
    out = tmp_path / "a.tif"
    arguments = ["map", str(DEMO), "-m", "terrain", "-o", str(out), "--aoi", "591000,9101000,591400,9101300"]  # fmt: skip
    done = CliRunner().invoke(
        cli, [*arguments, "--layers", "probs,margin", "--blend", "--tile-size", "128"]
    )
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in tmp_path.glob("*.tif"))
    assert names == ["a.margin.tif", "a.probs.tif", "a.tif"]
    with rasterio.open(out) as labels, rasterio.open(tmp_path / "a.probs.tif") as probs:
        assert labels.bounds == probs.bounds
        found, levels = labels.read(1), probs.read().astype(int)
    chosen = np.take_along_axis(levels, found[None].astype(int), 0)[0]
    assert (chosen == levels.max(0)).all()
    again = CliRunner().invoke(
        cli, [*arguments[:-4], "-o", str(tmp_path / "b.tif"), "--layers", "x"]
    )
    assert again.exit_code == 2
    assert "layer 'x': use probs, confidence" in again.stderr
    (tmp_path / "c.probs.tif").touch()
    arguments[5] = str(tmp_path / "c.tif")
    again = CliRunner().invoke(cli, [*arguments, "--layers", "probs"])
    assert again.exit_code == 2 and "c.probs.tif: exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rethreshold", "{map}", "-t", "sheds=0.5", "-o", "{out}.zarr"], "no category 'sheds'"),
        (["rethreshold", "{map}", "-t", "built=x", "-o", "{out}.zarr"], "write it as class=0.6"),
        (
            ["rethreshold", "{map}", "-t", "built=0.5", "-o", "{out}.gpkg"],
            "is not one of .tif, .tiff, .zarr",
        ),
        (["layers", "{map}", "-o", "{out}", "--layer", "x"], "no layer 'x': it has score"),
    ],
)
def test_what_can_not_be_done_is_said(kept: Path, tmp_path: Path, arguments, says: str) -> None:
    filled = [text.format(map=kept, out=tmp_path / "out") for text in arguments]
    done = CliRunner().invoke(cli, filled)
    assert done.exit_code == 2
    assert says in done.output


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, (3, 2, 4)),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_thresholds_by_hand(levels: np.ndarray, least: list[float]) -> None:
    given_levels = {2 * i: levels[i] for i in range(3)}
    category, score = apply_thresholds(given_levels, {2 * i: p for i, p in enumerate(least)})
    for row in range(2):
        for col in range(4):
            held = [
                (int(levels[i, row, col]), -i)
                for i in range(3)
                if levels[i, row, col] != 255 and levels[i, row, col] >= 254 * least[i]
            ]
            level, place = max(held, default=(255, None))
            assert category[row, col] == (255 if place is None else -2 * place)
            assert score[row, col] == level
