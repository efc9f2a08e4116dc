"""geoseg evaluate on rasters, polygons and COCO."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rasterio.features import shapes
from scipy.ndimage import binary_erosion

from geoseg.assess.evaluation import Evaluation, Labels
from geoseg.cli import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError
from geoseg.export.raster import write_raster
from geoseg.grid import Window
from geoseg.labels.coco import LabelImage, write_coco_instances, write_coco_panoptic
from geoseg.labels.sources import open_labels
from geoseg.legend import Category, Legend

TRANSFORM = Affine(2, 0, 5e5, 0, -2, 5e6)
LEGEND = Legend((Category(0, "object", "#0072b2", isthing=True),))


@pytest.fixture
def truth():
    ids = np.zeros((120, 90), np.uint16)
    ids[5:40, 5:50], ids[5:40, 50:85], ids[60:110, 10:60] = 1, 2, 3
    return ids


@pytest.fixture
def found(truth):
    ids = np.roll(truth, 2, 1)
    ids[ids == 2] = 0
    ids[90:118, 65:88] = 9
    return ids


def write_tif(path, array, nodata=None):
    profile = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "crs": "EPSG:32633"}
    high, wide = array.shape
    with rasterio.open(
        path, "w", height=high, width=wide, transform=TRANSFORM, nodata=nodata, **profile
    ) as file:
        file.write(array, 1)
    return str(path)


def polygons_of(array):
    parts = [
        shapely.geometry.shape(geometry)
        for geometry, value in shapes(array.astype(np.int32), array > 0, transform=TRANSFORM)
    ]
    return gpd.GeoDataFrame(geometry=parts, crs="EPSG:32633")


def run(*arguments):
    result = CliRunner().invoke(geoseg, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_raster_polygons_and_coco_say_the_same(tmp_path, truth, found):
    tif = write_tif(tmp_path / "map.tif", found)
    polygons_of(truth).to_file(tmp_path / "truth.gpkg")
    image = LabelImage(
        file_name="x.tif",
        category_id=np.where(truth > 0, 0, 255).astype(np.uint8),
        instance_id=truth.astype(np.uint32),
    )
    write_coco_instances(tmp_path / "things.json", [image], LEGEND)
    write_coco_panoptic(tmp_path / "panoptic.json", [image], LEGEND)
    write_tif(tmp_path / "truth.tif", truth)
    reports = []
    for name in ("truth.gpkg", "things.json", "panoptic.json", "truth.tif"):
        output = tmp_path / f"{name}.figures.json"
        more = ["--exhaustive"] if name == "truth.tif" else []
        text = run(tif, tmp_path / name, "--json", output, "--boundary-px", 2, *more)
        assert "panoptic, things" in text
        reports.append(json.loads(output.read_text()))
    for report in reports[1:]:
        assert {k: v for k, v in report.items() if k != "truth"} == {
            k: v for k, v in reports[0].items() if k != "truth"
        }
    objects = reports[0]["objects"]["object"]
    assert (objects["tp"], objects["fp"], objects["fn"]) == (2, 1, 1)
    assert reports[0]["pixels"] == truth.size
    both = ((truth > 0) & (found > 0)).sum()
    either = ((truth > 0) | (found > 0)).sum()
    assert reports[0]["per_category"]["object"]["iou"] == pytest.approx(both / either, abs=1e-6)


def test_the_picture_shows_hits_misses_and_false_finds(tmp_path, truth, found):
    tif = write_tif(tmp_path / "map.tif", found)
    other = write_tif(tmp_path / "truth.tif", truth)
    run(tif, other, "--exhaustive", "--picture", tmp_path / "errors.png")
    with rasterio.open(tmp_path / "errors.png") as file:
        colours = {tuple(c) for c in file.read([1, 2, 3]).reshape(3, -1).T.tolist()}
    assert {(0, 158, 115), (0, 114, 178), (213, 94, 0)} <= colours
    assert not list(tmp_path.glob("*.part"))


def test_categories_of_rasters(tmp_path):
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    found = np.array([[0, 1, 1, 1]], np.uint8)
    a = write_tif(tmp_path / "a.tif", found, 255)
    b = write_tif(tmp_path / "b.tif", truth, 255)
    run(a, b, "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["pixels"] == 3
    assert report["semantic"]["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert "objects" not in report


def test_instances_are_the_one_thing_of_the_legend(tmp_path, truth):
    """What a raster of instances is called, the other side's legend says."""
    soil = Category(0, "soil", "#885500")
    things = [Category(k, name, "#00ff00", isthing=True) for k, name in ((3, "field"), (5, "wood"))]
    ids = write_tif(tmp_path / "ids.tif", truth)
    category = open_labels(ids, None, Legend((soil, things[0]))).read(Window(0, 0, 120, 90))[0]
    assert set(np.unique(category)) == {3, 255}
    for legend in (Legend((soil,)), Legend((soil, *things))):
        with pytest.raises(InputError, match="one thing"):
            open_labels(ids, None, legend)
    classes = write_tif(tmp_path / "classes.tif", (truth > 0).astype(np.uint8))
    result = CliRunner().invoke(geoseg, ["evaluate", str(classes), str(ids)])
    assert result.exit_code == 2
    assert "holds instances" in result.output


def test_a_coco_file_of_another_place_is_refused(tmp_path, truth):
    tif = write_tif(tmp_path / "map.tif", truth)
    for shift, code in ((0.0, 0), (5.0, 2)):
        image = LabelImage(
            file_name="x.tif",
            category_id=np.where(truth > 0, 0, 255).astype(np.uint8),
            instance_id=truth.astype(np.uint32),
            transform=tuple(TRANSFORM * Affine.translation(shift, 0))[:6],
            crs=rasterio.CRS.from_epsg(32633).to_wkt(),
        )
        write_coco_instances(tmp_path / "x.json", [image], LEGEND)
        result = CliRunner().invoke(geoseg, ["evaluate", tif, str(tmp_path / "x.json")])
        assert result.exit_code == code, result.output
    assert "its grid is not that of the other side" in result.output


def test_other_grids_and_files_are_refused(tmp_path, truth):
    a = write_tif(tmp_path / "a.tif", truth)
    b = write_tif(tmp_path / "b.tif", truth[:50])
    (tmp_path / "c.gpkg").write_text("no")
    for other, words in (
        (b, "bring both to one grid"),
        (tmp_path / "c.gpkg", "c.gpkg: no polygons"),
        (tmp_path / "missing.tif", "missing.tif: no labels"),
    ):
        result = CliRunner().invoke(geoseg, ["evaluate", a, str(other)])
        assert result.exit_code == 2
        assert words in result.output


@pytest.mark.parametrize("size", [(7, 11), (33, 90), (120, 90)])
def test_windows_leave_no_trace(truth, found, size):
    reports = []
    for height, width in ((120, 90), size):
        evaluation = Evaluation(LEGEND, exhaustive=True, boundary_px=3)
        whole = Window(0, 0, 120, 90)
        for row in range(0, 120, height):
            for col in range(0, 90, width):
                inner = Window(row, col, height, width) & whole
                around = inner.grow(3) & whole
                sides = [
                    Labels(np.where(a > 0, 0, 255).astype(np.uint8), a, (a % 200).astype(np.uint8))
                    for a in (truth[around.slices], found[around.slices])
                ]
                evaluation.add(*sides, inner.relative_to(around), whole.relative_to(around))
        report = evaluation.report()
        for name in ("semantic_95_percent", "panoptic_95_percent", "iou_95_percent"):
            report.pop(name, None)
        parts = evaluation.quality_parts()
        assert len(parts) == len(evaluation.confusions)
        whole_quality = evaluation.matches().quality()
        np.testing.assert_allclose(
            parts.sum((0, 1)),
            [whole_quality.iou_sum, whole_quality.tp, whole_quality.fp, whole_quality.fn],
        )
        reports.append(report)
    assert reports[0] == reports[1]


def evaluated(truth, found, side):
    """In windows of ``side`` x ``side`` px."""
    evaluation = Evaluation(LEGEND, exhaustive=True)
    for row in range(0, truth.shape[0], side):
        for col in range(0, truth.shape[1], side):
            cut = np.s_[row : row + side, col : col + side]
            labels = [
                Labels(np.where(a[cut] > 0, 0, 255).astype(np.uint8), a[cut])
                for a in (truth, found)
            ]
            inner = Window(0, 0, *labels[0].category_id.shape)
            evaluation.add(*labels, inner, inner)
    return evaluation


def test_panoptic_quality_comes_with_an_interval():
    """Against drawing the windows' own qualities: objects lie inside windows."""
    rng = np.random.default_rng(3)
    truth = np.zeros((200, 200), np.uint32)
    found = truth.copy()
    for number in range(100):
        row, col = 20 * (number // 10) + 4, 20 * (number % 10) + 4
        truth[row : row + 12, col : col + 12] = number + 1
        if rng.random() < 0.7:
            found[row : row + 12, col : col + 12 - number % 4] = number + 1
    evaluation = evaluated(truth, found, 40)
    report = evaluation.report()
    low, high = report["panoptic_95_percent"]["pq"]
    point = report["panoptic"]["all"]["pq"]
    assert 0.4 < low < point < high < 0.9
    own = [evaluated(truth[cut], found[cut], 40).matches().quality() for cut in cuts(200, 40)]
    drawn = []
    for _ in range(400):
        some = [own[k] for k in rng.integers(0, len(own), len(own))]
        total = [sum(getattr(q, n) for q in some) for n in ("iou_sum", "tp", "fp", "fn")]
        drawn.append(total[0] / (total[1] + total[2] / 2 + total[3] / 2))
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5]), atol=0.03)
    # nothing to doubt where everything is found
    perfect = evaluated(truth, truth, 40).report()
    assert perfect["panoptic_95_percent"]["pq"] == [1.0, 1.0]


def cuts(size, side):
    steps = range(0, size, side)
    return [np.s_[row : row + side, col : col + side] for row in steps for col in steps]


def test_a_map_that_was_kept(tmp_path, truth, found):
    """With scores it has AP too; all else is as of the raster."""
    geobox = GeoBox(found.shape, TRANSFORM, "EPSG:32633")
    category = np.where(found > 0, 0, 255).astype(np.uint8)
    score = np.where(found > 0, 200, 255).astype(np.uint8)
    SegmentMap.from_arrays(
        category, geobox, LEGEND, instance_id=found, score=score, url=str(tmp_path / "map.zarr")
    )
    polygons_of(truth).to_file(tmp_path / "truth.gpkg")
    tif = write_tif(tmp_path / "map.tif", found)
    reports = []
    for name in (tmp_path / "map.zarr", tif):
        figures, picture = tmp_path / "figures.json", tmp_path / "errors.png"
        text = run(name, tmp_path / "truth.gpkg", "--json", figures, "--picture", picture)
        assert "panoptic, things" in text and picture.stat().st_size > 1000
        reports.append(json.loads(figures.read_text()))
    precision = reports[0].pop("average_precision")
    assert precision["ap50"] == pytest.approx(2 / 3, abs=0.01)
    for key in ("panoptic", "objects", "segmentation", "semantic", "pixels"):
        assert reports[0][key] == reports[1][key]


def test_boundaries_of_categories_by_erosion(tmp_path):
    """The rim is what an erosion takes away; the scene's edge is one, unjudged ground is none."""
    truth = np.zeros((64, 64), np.uint8)
    truth[:, 32:] = 1
    truth[:4] = 255
    found = np.zeros((64, 64), np.uint8)
    found[5:, 34:] = 1
    a, b = write_tif(tmp_path / "a.tif", found, 255), write_tif(tmp_path / "b.tif", truth, 255)
    run(a, b, "--boundary-px", "2", "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    for k in (0, 1):
        rims = [
            (side == k) & ~binary_erosion(side == k, np.ones((5, 5)), border_value=0)
            for side in (truth, found)
        ]
        both, either = (op(*rims) & (truth != 255) for op in (np.logical_and, np.logical_or))
        expected = both.sum() / either.sum()
        assert 0.2 < expected < 0.9
        got = report["per_category"][str(k)]["boundary_iou"]
        assert got == pytest.approx(expected, abs=1e-6)
    assert report["boundary_px"] == 2


def test_a_small_scene_has_intervals_too(tmp_path):
    rng = np.random.default_rng(5)
    truth = np.kron(rng.integers(0, 2, (25, 20)), np.ones((10, 10), int)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.1, 1 - truth, truth).astype(np.uint8)
    a, b = write_tif(tmp_path / "a.tif", found, 255), write_tif(tmp_path / "b.tif", truth, 255)
    text = run(a, b, "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    low, high = report["semantic_95_percent"]["accuracy"]
    assert low < report["semantic"]["accuracy"] < high < low + 0.05
    low, high = report["iou_95_percent"]["1"]
    assert low < report["per_category"]["1"]["iou"] < high
    assert "iou, 95 %" in text
    assert f"intervals from {report['blocks']['count']} blocks of 37 px" in text


def test_maps_bring_their_names_and_publishers_their_numbers(tmp_path):
    """A map that geoseg wrote against the land cover experts' numbers, which are one more."""
    experts = np.kron(np.arange(1, 10), np.ones((8, 8), int)).astype(np.uint8)
    experts[:2] = 0
    geobox = GeoBox(experts.shape, TRANSFORM, "EPSG:32633")
    legend = Legend.open("dynamic_world")
    found = (np.maximum(experts, 1) - 1).astype(np.uint8)
    write_raster(found, tmp_path / "map.tif", geobox=geobox, legend=legend)
    with rasterio.open(tmp_path / "map.tif") as file:
        profile = file.profile | {"driver": "GTiff", "dtype": "int16", "nodata": None}
    with rasterio.open(tmp_path / "truth.tif", "w", **profile) as file:
        file.write(experts.astype(np.int16), 1)
    text = run(tmp_path / "map.tif", tmp_path / "map.tif")
    assert "flooded_vegetation" in text and "accuracy 1" in text
    text = run(tmp_path / "map.tif", tmp_path / "truth.tif", "--legend", "dynamic_world_experts")
    assert f"{8 * 72 - 2 * 72:,} px judged" in text and "accuracy 1 " in text


def test_the_table_tells_intervals(tmp_path):
    """A scene of twelve windows."""
    rng = np.random.default_rng(2)
    truth = np.kron(rng.integers(0, 2, (31, 41)), np.ones((100, 100), int)).astype(np.uint8)
    found = truth.copy()
    found[:700] = 0
    a, b = write_tif(tmp_path / "a.tif", found), write_tif(tmp_path / "b.tif", truth)
    legend = tmp_path / "legend.json"
    legend.write_text(
        json.dumps(
            Legend(
                (Category(0, "soil", "#aa8800"), Category(1, "field", "#00ff00", True))
            ).to_dict()
        )
    )
    text = run(a, b, "--legend", legend)
    assert "semantic, 95 %" in text and "panoptic, 95 %" in text
