"""geoseg polygonize and geoseg.polygonize: files, arrays and maps to polygons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasters import NORTH_UP, run, write

import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError
from geoseg.polygons import polygonize
from geoseg.vectorize.stream import VectorizeOptions


def landcover(shape: tuple[int, int] = (70, 90), seed: int = 0) -> NDArray[np.uint8]:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal(shape), 3) for _ in range(4)]
    return np.argmax(fields, axis=0).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["parquet", "gpkg", "fgb"])
def test_a_file_becomes_the_polygons_of_its_pixels(tmp_path: Path, suffix: str) -> None:
    labels = landcover()
    source, out = write(tmp_path / "in.tif", labels, nodata=0), tmp_path / f"out.{suffix}"
    result = run(source, "-o", str(out))
    assert result.exit_code == 0, result.output
    frame = gpd.read_parquet(out) if suffix == "parquet" else gpd.read_file(out)
    assert frame.crs.to_epsg() == 32631
    assert set(frame.geom_type) == {"MultiPolygon"}
    frame = frame.sort_values("segment_id")
    expected = [
        (shapely.geometry.shape(s), v)
        for s, v in rasterio.features.shapes(labels, labels != 0, transform=NORTH_UP)
    ]
    parts = frame.geometry.apply(lambda g: g.geoms[0])
    assert {g.wkb for g in shapely.normalize(parts.to_numpy())} == {
        g.wkb for g in shapely.normalize(np.array([s for s, _ in expected], object))
    }
    burnt = rasterio.features.rasterize(
        zip(frame.geometry, frame.value, strict=True), labels.shape, transform=NORTH_UP
    )
    assert (burnt == labels).all()
    again = run(source, "-o", str(out))
    assert again.exit_code == 2
    assert "--overwrite" in again.output


def test_simplified_in_metres_or_degrees(tmp_path: Path) -> None:
    labels = landcover()
    metres = write(tmp_path / "m.tif", labels)
    degrees = write(
        tmp_path / "d.tif",
        labels,
        crs="EPSG:4326",
        transform=Affine(10 / 78847, 0, 10, 0, -10 / 111132, 45),
    )
    counts = []
    for source in (metres, degrees):
        assert run(source, "-o", f"{source}.parquet", "--simplify", "12").exit_code == 0
        frame = gpd.read_parquet(f"{source}.parquet")
        assert shapely.coverage_is_valid(frame.geometry.apply(lambda g: g.geoms[0]).to_numpy())
        counts.append(int(shapely.get_num_coordinates(frame.geometry.to_numpy()).sum()))
    plain = sum(shapely.get_num_coordinates(polygonize(labels).geometry.to_numpy()))
    assert counts[0] < 0.5 * plain
    assert counts[1] == pytest.approx(counts[0], rel=0.02)


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    labels = landcover()
    nowhere = write(tmp_path / "nowhere.tif", labels, crs=None, transform=Affine.identity())
    floats = write(tmp_path / "floats.tif", labels.astype(np.float32))
    good = write(tmp_path / "good.tif", labels)
    out = str(tmp_path / "out.gpkg")
    for args, words in (
        ((nowhere, "-o", out), "--assume-crs"),
        ((floats, "-o", out), "float32"),
        ((good, "-o", out, "--band", "2"), "no band 2"),
        ((good, "-o", out, "--simplify", "-1"), "tolerance -1.0 m"),
        ((str(tmp_path / "missing.tif"), "-o", out), "missing.tif"),
        ((good, "-o", str(tmp_path / "out.tif")), "out.tif"),
    ):
        result = run(*args)
        assert result.exit_code == 2, (args, result.output)
        assert words in result.output
        assert result.output.count("\n") <= 2
        assert not Path(out).exists()


@pytest.mark.parametrize("suffix", [".geojson", ".pmtiles"])
def test_a_local_crs_has_no_degrees(tmp_path: Path, suffix: str) -> None:
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    source = write(tmp_path / "site.tif", landcover(), crs=local)
    result = run(source, "-o", str(tmp_path / f"out{suffix}"), "-q")
    assert result.exit_code == 2 and result.output.count("\n") == 1
    for word in (f"out{suffix}", "site.tif", "'site grid'", ".gpkg"):
        assert word in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["site.tif"]
    assert run(source, "-o", str(tmp_path / "out.gpkg"), "-q").exit_code == 0


def test_pixel_coordinates_on_request(tmp_path: Path) -> None:
    source = write(tmp_path / "n.tif", landcover(), crs=None, transform=Affine.identity())
    out = tmp_path / "out.parquet"
    assert run(source, "-o", str(out), "--pixel-coords").exit_code == 0
    frame = gpd.read_parquet(out)
    assert frame.crs is None
    assert frame.area_m2.isna().all()
    assert frame.total_bounds.tolist() == [0, 0, 90, 70]


def test_arrays_maps_and_scenes_in_python(tmp_path: Path) -> None:
    labels = landcover()
    mask = labels != 2
    frame = geoseg.polygonize(labels, mask=mask, transform=NORTH_UP, crs=32631)
    assert frame.pixels.sum() == mask.sum()
    assert set(frame.value) == {0, 1, 3}
    scene = geoseg.open_scene(write(tmp_path / "s.tif", labels, nodata=2))
    assert geoseg.polygonize(scene).equals(frame)
    assert geoseg.polygonize(tmp_path / "s.tif").equals(frame)
    legend = geoseg.Legend(
        tuple(geoseg.Category(i, f"class {i}", "#808080", isthing=i == 1) for i in range(4))
    )
    instance = np.where(labels == 1, 1 + np.arange(90) // 45, 0)
    kept = SegmentMap.from_arrays(labels, scene.geobox, legend, instance_id=instance)
    found = polygonize(kept)
    assert found.instance_id[found.category_id == 1].isin([1, 2]).all()
    assert found.instance_id[found.category_id != 1].isna().all()
    assert (found.category == "class " + found.category_id.astype(str)).all()
    assert found.dtypes.equals(polygonize(kept, VectorizeOptions(nodata=(0,))).dtypes)
    with pytest.raises(InputError, match="float64"):
        polygonize(labels * 1.0)
    with pytest.raises(InputError, match="go with an array"):
        polygonize(scene, mask=mask)


def test_an_interruption_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (3000, 3000)).astype(np.uint8)
    source = write(tmp_path / "noise.tif", noise)
    words = ["polygonize", source, "-o", str(tmp_path / "noise.gpkg")]
    running = subprocess.Popen(
        [sys.executable, "-m", "geoseg.cli", *words], stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    assert "polygonize" in running.stderr.readline()
    running.terminate()
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "nothing was written. Start again with: geoseg polygonize" in said
    assert "kept" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["noise.tif"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    from geoseg.export.vector import write_vector
    from geoseg.polygons import Labels, polygon_batches

    labels = Labels.open(np.arange(10000, dtype=np.uint16).reshape(100, 100))

    def stop(rows: int) -> None:
        if rows > 40:
            raise KeyboardInterrupt

    batches = polygon_batches(labels, VectorizeOptions(tile_size=(10, 10)), stop)
    with pytest.raises(KeyboardInterrupt):
        write_vector(batches, tmp_path / "out.gpkg", crs=32631)
    assert list(tmp_path.iterdir()) == []
