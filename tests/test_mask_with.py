"""Another model's classes left out before mapping, and the count of what masks took."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from scipy import ndimage
from toys import MeanSegmenter, array_scene, mean_labels

import geoseg
from geoseg.cli import geoseg as cli
from geoseg.engine.store import JobStore
from geoseg.errors import BlockError, GeosegError, InputError, ModelError
from geoseg.models.segmenter import LabelTile
from geoseg.pipeline import NoProgress, prepare, run
from geoseg.scene.region import Region

HIGH = MeanSegmenter(reach=2, tile_size=24)
"""Masks: 1, called high, where the mean over 5 x 5 is above 128."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    coarse = np.random.default_rng(4).integers(0, 256, (1, 12, 15))
    return coarse.repeat(9, 1).repeat(9, 2).astype(np.uint8)  # 108 x 135


def write(path: Path, pixels: np.ndarray) -> Path:
    count, rows, cols = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": rows, "width": cols}
    place = Affine(10, 0, 500000, 0, -10, 5200000)
    with rasterio.open(
        path, "w", dtype=pixels.dtype, crs="EPSG:32633", transform=place, **profile
    ) as file:
        file.write(pixels)
    return path


def segment(scene: geoseg.Scene, **options: Any) -> geoseg.SegmentMap:
    wanted = {"workers": -1, "mask_with": HIGH, "mask_classes": ("high",)} | options
    return geoseg.segment(scene, MeanSegmenter(reach=3), **wanted)


@pytest.mark.parametrize(("tile", "block"), [(24, 2), (40, 1), (64, 5)])
def test_what_is_masked_is_the_same_at_any_tiling(pixels, tile: int, block: int) -> None:
    found = segment(array_scene(pixels), tile_size=tile, block_tiles=block).category_id
    out = mean_labels(pixels, 5) == 1
    np.testing.assert_array_equal(found, np.where(out, 255, mean_labels(pixels, 7)))


class Careful(MeanSegmenter):
    """Tells whether an odd number of the pixels around one is masked."""

    def predict(self, pixels: Any, valid: Any) -> Any:
        size = 2 * self.reach + 1
        counts = [ndimage.convolve(tile.astype(int), np.ones((size, size))) for tile in valid]
        return [LabelTile((n % 2).astype(np.uint8), np.zeros_like(n, np.uint8)) for n in counts]


def test_an_area_is_the_crop_of_the_masked_map(pixels) -> None:
    scene, model = array_scene(pixels), Careful(reach=3)
    box = (500_210.0, 5_199_300.0, 500_700.0, 5_199_790.0)
    how = {"workers": -1, "mask_with": HIGH, "mask_classes": ("high",)}
    part = geoseg.segment(scene, model, area=Region.box(box), **how)
    whole = geoseg.segment(scene, model, **how).category_id[part.region.slices]
    np.testing.assert_array_equal(part.category_id, whole)
    assert (whole == 255).any()


def test_the_mask_s_model_works_at_its_own_gsd(pixels) -> None:
    """Twice as coarse: each of its pixels takes four of the scene's."""
    model = MeanSegmenter(reach=1)
    object.__setattr__(model, "card", replace(model.card, gsd_m=(20.0, 20.0)))
    found = segment(array_scene(pixels), mask_with=model).category_id
    mean = geoseg.resampled(array_scene(pixels), 20.0).read()[0]
    out = mean_labels(mean, 3).repeat(2, 0).repeat(2, 1) == 1
    wanted = np.where(out[:108, :134], 255, mean_labels(pixels, 7)[:, :134])
    np.testing.assert_array_equal(found[:, :134], wanted)


def test_the_command_counts_pixels_and_shares_by_mask(pixels, tmp_path: Path) -> None:
    image = pixels.copy()
    image[:, :10] = 0
    scene = write(tmp_path / "a.tif", image)
    flags = np.zeros((1, *pixels.shape[1:]), np.uint8)
    flags[0, :, :20] = 1
    mask = write(tmp_path / "edge.tif", flags)
    out = tmp_path / "m.tif"
    done = CliRunner().invoke(
        cli,
        [
            *("map", str(scene), "-m", "threshold:b1>100", "-o", str(out), "--nodata", "0"),
            *("--mask", str(mask), "--mask-with", "threshold:b1>200", "--json"),
            *("--mask-classes", "high"),
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    data = image[0] > 0
    edge = (flags[0] == 1) & data
    bright = (image[0] > 200) & data & ~edge
    assert report["masked"] == {
        "edge.tif: masked": {
            "pixels": int(edge.sum()),
            "share": pytest.approx(edge.sum() / data.sum(), abs=1e-6),
        },
        "threshold:b1>200: high": {
            "pixels": int(bright.sum()),
            "share": pytest.approx(bright.sum() / data.sum(), abs=1e-6),
        },
    }
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1) == 255, ~data | edge | bright)
    assert sorted(path.name for path in tmp_path.glob("*geoseg*")) == []


def test_masks_of_a_resampled_scene_are_counted_on_its_grid(pixels, tmp_path: Path) -> None:
    scene = write(tmp_path / "a.tif", pixels)
    flags = np.zeros((1, *pixels.shape[1:]), np.uint8)
    flags[0, 10:50, 20:61] = 1
    mask = write(tmp_path / "flags.tif", flags)
    opened = geoseg.open_scenes([scene], geoseg.SceneOptions(mask=str(mask), gsd_m=20.0))
    report = geoseg.map_scene(opened, "threshold:b1>100", [str(tmp_path / "m.tif")])
    taken = int((~opened.read()[1]).sum())
    assert taken in (20 * 20, 20 * 21)  # the last column is half masked
    assert report.masked == {"flags.tif": taken}
    assert report.with_data == 54 * 67
    assert f"masked   {taken} px" in str(report)
    said = "a.tif: resampled on reading from 10 m to 20 m; the map has that grid"
    assert said in report.warnings
    assert "ran on   cpu, numpy, exact" in str(report)


@dataclass(frozen=True)
class Counted(MeanSegmenter):
    """Notes each batch in a file."""

    path: str = ""

    def predict(self, pixels: Any, valid: Any) -> Any:
        with open(self.path, "a") as file:
            file.write("x")
        return super().predict(pixels, valid)


@dataclass(frozen=True)
class Failing(MeanSegmenter):
    """Fails on its first tile until a file is there."""

    path: str = ""

    def predict(self, pixels: Any, valid: Any) -> Any:
        if not Path(self.path).exists():
            raise BlockError("the model is not there yet")
        return super().predict(pixels, valid)


def test_a_job_goes_on_with_the_mask_that_it_has(pixels, tmp_path: Path) -> None:
    mask = Counted(reach=2, tile_size=24, path=str(tmp_path / "calls"))
    model = Failing(path=str(tmp_path / "there"))
    options = geoseg.RunOptions(workers=-1, mask_with=mask, mask_classes=("high",))
    prepared = prepare(array_scene(pixels), model, options)
    store = JobStore(str(tmp_path / "job"))
    with pytest.raises(BlockError):
        run(prepared, store, NoProgress())
    calls = len(Path(mask.path).read_text())
    Path(model.path).touch()
    found, report = run(prepared, store, NoProgress())
    assert len(Path(mask.path).read_text()) == calls
    out = mean_labels(pixels, 5) == 1
    np.testing.assert_array_equal(found.category_id == 255, out)
    assert report.masked == {"mean-2: high": int(out.sum())}
    other = replace(options, mask_classes=("low",))
    with pytest.raises(GeosegError, match="started with something else: options.mask"):
        run(prepare(array_scene(pixels), model, other), store, NoProgress())


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mask_classes": ("cloud",)}, ModelError, "no class cloud: give some of low, high to"),
        ({"mask_classes": ()}, ModelError, "no class named: give some of low, high to"),
        ({"mask_with": None}, InputError, "name the model that gives them with --mask-with"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(pixels, options, error, says: str) -> None:
    wanted = {"mask_with": HIGH, "mask_classes": ("high",)} | options
    with pytest.raises(error, match=says):
        prepare(array_scene(pixels), MeanSegmenter(), geoseg.RunOptions(**wanted))


def test_a_share_of_a_masked_job_is_refused(pixels, tmp_path: Path) -> None:
    options = geoseg.RunOptions(mask_with=HIGH, mask_classes=("high",))
    prepared = prepare(array_scene(pixels), MeanSegmenter(), options)
    with pytest.raises(InputError, match="--part: a job that --mask-with begins"):
        run(prepared, JobStore(str(tmp_path / "job")), NoProgress(), part=(1, 2))
    assert not (tmp_path / "job").exists()
