"""Small segments of any raster of labels are gone before it is vectorized, at any cut into blocks."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasters import NORTH_UP, run, write
from scipy import ndimage

import geoseg
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.polygons import Labels, Sieving, polygon_batches, polygonize
from geoseg.sieving import SievedLabels, pixel_area
from geoseg.stitch.sieve import SieveJoin, sieve
from geoseg.vectorize.stream import VectorizeOptions
from geoseg.vectorize.strips import ArraySource

CROSS = ndimage.generate_binary_structure(2, 1)
DEMO = Path(geoseg.__file__).parent / "data" / "demo"
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def regions(labels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of the segment of each pixel, from 1 in raster order; 0 for nodata."""
    parts = []
    for value in np.unique(labels[valid]):
        part, n = ndimage.label(valid & (labels == value), CROSS)
        parts += [part == k for k in range(1, n + 1)]
    out = np.zeros(labels.shape, np.int64)
    for number, part in enumerate(sorted(parts, key=lambda m: np.flatnonzero(m)[0]), 1):
        out[part] = number
    return out


def borders(now: NDArray[np.int64], k: int) -> dict[int, int]:
    """Pixel edges that a segment shares with each other; 0: nodata or the raster's edge."""
    padded = np.pad(now, 1)
    shared: dict[int, int] = {}
    for row, col in np.argwhere(padded == k):
        for near in (
            padded[row - 1, col],
            padded[row + 1, col],
            padded[row, col - 1],
            padded[row, col + 1],
        ):
            if near != k:
                shared[int(near)] = shared.get(int(near), 0) + 1
    return shared


def oracle(labels: Any, valid: Any, least: int, to: str) -> tuple[NDArray[Any], ...]:
    """The whole raster at once, one segment after the other, everything counted anew:
    labels, what stays valid, what was absorbed.
    """
    start = regions(labels, valid)
    now = start.copy()
    sizes = np.bincount(start.ravel())
    if to == "nodata":
        now[(sizes < least)[start]] = 0
    elif to == "enclosing":
        for k in range(1, len(sizes)):
            near = borders(start, k)
            if sizes[k] < least and len(near) == 1 and 0 not in near:
                now[start == k] = next(iter(near))
    else:
        stuck: set[int] = set()
        while True:
            sizes = np.bincount(now.ravel())
            todo = [
                (sizes[k], k)
                for k in range(1, len(sizes))
                if 0 < sizes[k] < least and k not in stuck
            ]
            if not todo:
                break
            k = min(todo)[1]  # numbers are in the order of the first pixels
            near = {n: e for n, e in borders(now, k).items() if n}
            if near:
                now[now == k] = min(near, key=lambda n: (-near[n], n))
            else:
                stuck.add(k)
    first = np.zeros(int(start.max()) + 1, np.int64)
    flat, at = np.unique(start, return_index=True)
    first[flat] = at
    return np.where(now > 0, labels.ravel()[first[now]], labels), valid & (now > 0), now != start


@st.composite
def rasters(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    shape = draw(st.tuples(st.integers(1, 22), st.integers(1, 22)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype, zoom, kinds = (
        draw(st.sampled_from(DTYPES)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
    )
    coarse = rng.integers(0, kinds, (shape[0] // zoom + 1, shape[1] // zoom + 1))
    labels = np.kron(coarse, np.ones((zoom, zoom), int))[: shape[0], : shape[1]]
    noisy = rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.5]))
    labels = np.where(noisy, rng.integers(0, 4, shape), labels)
    valid = rng.random(shape) >= draw(st.sampled_from([0, 0.05, 0.4]))
    return spread(labels, dtype), valid


def spread(labels: NDArray[Any], dtype: str) -> NDArray[Any]:
    """0 to 3 as values that only this type can tell apart, its extremes among them."""
    if dtype == "bool":
        return labels % 2 == 1
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.array([low, high, high - 1, 255 if dtype == "uint8" else low + 1], dtype)[labels]


def in_blocks(labels: Any, valid: Any, joins: Any, block: Any, **more: Any) -> Any:
    source = SievedLabels.of(
        ArraySource(np.ma.MaskedArray(labels, ~valid), **more), joins, block=block
    )
    got, score = source.read(Window(0, 0, *labels.shape))
    return np.ma.getdata(got), ~np.ma.getmaskarray(got), score


@settings(max_examples=100, deadline=None)
@given(
    rasters(),
    st.integers(1, 20),
    st.sampled_from(["neighbour", "nodata", "enclosing"]),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
)
def test_any_raster_in_any_blocks_equals_the_plain_definition(
    raster: Any, least: int, to: Any, block: Any
) -> None:
    labels, valid = raster
    got, left, score = in_blocks(labels, valid, [SieveJoin(least, to)], block)
    expected, stays, _ = oracle(labels, valid, least, to)
    assert got.dtype == labels.dtype
    assert score is None
    np.testing.assert_array_equal(left, stays)
    np.testing.assert_array_equal(got[stays], expected[stays])


@settings(max_examples=25, deadline=None)
@given(
    rasters(),
    st.integers(1, 12),
    st.integers(1, 12),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
)
def test_holes_are_filled_before_the_rest_is_merged(
    raster: Any, hole: int, least: int, block: Any
) -> None:
    labels, valid = raster
    joins = [SieveJoin(hole, "enclosing"), SieveJoin(least, "neighbour")]
    got, left, _ = in_blocks(labels, valid, joins, block)
    filled = oracle(labels, valid, hole, "enclosing")[0]
    expected = oracle(filled, valid, least, "neighbour")[0]
    np.testing.assert_array_equal(left, valid)
    np.testing.assert_array_equal(got[valid], expected[valid])


@settings(max_examples=40, deadline=None)
@given(rasters(), st.integers(1, 20), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_windows_of_any_height_and_scores(raster: Any, least: int, block: Any) -> None:
    """Nodata by value; what was absorbed has no score."""
    _, valid = raster
    rng = np.random.default_rng(valid.size)
    category = np.where(valid, rng.integers(0, 3, valid.shape), 255).astype(np.uint8)
    score = np.where(valid, rng.integers(0, 255, valid.shape), 255).astype(np.uint8)
    expected, _, moved = oracle(category, valid, least, "neighbour")
    joins = [SieveJoin(least)]
    source = SievedLabels.of(ArraySource(category, score), joins, nodata=255, block=block)
    rows, cols = category.shape
    for top in range(0, rows, 4):
        window = Window(top, 0, min(4, rows - top), cols)
        labels, levels = source.read(window)
        np.testing.assert_array_equal(np.ma.filled(labels, 255), expected[window.slices])
        np.testing.assert_array_equal(levels, np.where(moved, 255, score)[window.slices])


def landcover(shape: tuple[int, int] = (300, 400), noise: float = 0.05) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    smooth = ndimage.gaussian_filter(rng.random(shape), 6)
    labels = np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.8])).astype(np.uint8)
    labels[rng.random(shape) < noise] = 7
    return labels


def segments(labels: NDArray[Any], valid: Any = None) -> dict[str, NDArray[Any]]:
    """What ``sieve`` takes, for labels of a byte."""
    category = labels if valid is None else np.where(valid, labels, 255)
    return {"category_id": category.astype(np.uint8), "score": np.full(labels.shape, 255, np.uint8)}


def test_the_command_line_sieves_before_it_vectorizes(tmp_path: Path) -> None:
    labels = landcover()
    labels[40:60, 50:90] = 9  # declared nodata
    source, out = write(tmp_path / "in.tif", labels, nodata=9), tmp_path / "out.parquet"
    filled = sieve(segments(labels, labels != 9), 8, "enclosing")
    merged = sieve(filled, 30)["category_id"]
    pixel = pixel_area(NORTH_UP, rasterio.CRS.from_epsg(32631).to_wkt(), labels.shape)
    result = run(
        source, "-o", str(out), "--min-area", str(29.5 * pixel), "--fill-holes", str(7.5 * pixel)
    )
    assert result.exit_code == 0, result.output
    got = gpd.read_parquet(out)
    expected = polygonize(merged, mask=merged != 255, transform=NORTH_UP, crs=32631)
    assert got.value.tolist() == expected.value.tolist()
    assert got.geometry.apply(lambda g: g.geoms[0]).geom_equals_exact(expected.geometry, 0).all()
    assert got.pixels.min() >= 30
    assert got.pixels.sum() == (labels != 9).sum()
    dropped = run(
        source, "-o", str(out), "--min-area", str(29.5 * pixel), "--drop-small", "--overwrite"
    )
    assert dropped.exit_code == 0, dropped.output
    got = gpd.read_parquet(out)
    left = sieve(segments(labels, labels != 9), 30, "nodata")["category_id"] != 255
    assert got.pixels.sum() == left.sum() < (labels != 9).sum()


def test_real_land_cover(tmp_path: Path) -> None:
    """Java, labelled by experts: merged in square metres and smoothed, a coverage of what is known."""
    source, out = str(DEMO / "java_west_label.tif"), tmp_path / "out.gpkg"
    with rasterio.open(source) as file:
        labels, nodata = file.read(1), file.nodata
        size = pixel_area(file.transform, file.crs.to_wkt(), labels.shape)
    options = ("--min-area", "20000", "--fill-holes", "5000", "--smooth")
    result = run(source, "-o", str(out), *options)
    assert result.exit_code == 0, result.output
    arrays = segments(labels, labels != nodata)
    arrays = sieve(arrays, int(np.ceil(5000 / size)), "enclosing")
    merged = sieve(arrays, int(np.ceil(20000 / size)))["category_id"]
    frame = gpd.read_file(out)
    got = np.bincount(frame.value, frame.pixels, minlength=256)
    assert (
        got.tolist()
        == (np.bincount(merged.ravel(), minlength=256) * (np.arange(256) < 255)).tolist()
    )
    assert len(frame) < len(polygonize(source)) / 1.2
    assert shapely.coverage_is_valid(frame.geometry.apply(lambda g: g.geoms[0]).to_numpy())


def test_areas_are_those_of_the_ground_in_degrees(tmp_path: Path) -> None:
    """A pixel of 10 m, written in degrees: as many segments are merged as in metres."""
    labels = landcover((120, 150))
    degrees = Affine(10 / 78847, 0, 10, 0, -10 / 111132, 45)
    counts = [
        len(polygonize(labels, transform=where, crs=crs, sieving=Sieving(min_area_m2=1950)))
        for where, crs in ((NORTH_UP, 32631), (degrees, 4326), (Affine.scale(10, -10), None))
    ]
    assert counts[0] == counts[1] == counts[2] < 0.2 * len(polygonize(labels))


def test_maps_are_sieved_as_they_would_have_been_when_made() -> None:
    labels = landcover((150, 200))
    rng = np.random.default_rng(1)
    category = np.where(labels == 7, 1, labels)
    category[20:40, 30:80] = 255
    instance = np.where((category == 1), 1 + (np.arange(200) // 50), 0)
    score = np.where(category == 255, 255, rng.integers(0, 255, category.shape)).astype(np.uint8)
    legend = geoseg.Legend(
        tuple(geoseg.Category(i, f"class {i}", "#808080", isthing=i == 1) for i in range(4))
    )
    geobox = geoseg.from_array(labels[None], crs=32631, transform=NORTH_UP).geobox
    arrays = {"category_id": category, "instance_id": instance.astype(np.uint32), "score": score}

    def as_map(made: Any) -> SegmentMap:
        return SegmentMap.from_arrays(
            made["category_id"],
            geobox,
            legend,
            score=made["score"],
            instance_id=made["instance_id"],
        )

    small = Sieving(min_area_m2=2450.0)
    assert polygonize(as_map(arrays), sieving=small).equals(polygonize(as_map(sieve(arrays, 25))))
    dropped = Sieving(min_area_m2=2450.0, drop_small=True)
    assert polygonize(as_map(arrays), sieving=dropped).equals(
        polygonize(as_map(sieve(arrays, 25, "nodata")))
    )


def test_what_is_left_out_takes_part() -> None:
    """Background is no nodata: holes of it are filled, and small objects go to it."""
    labels = np.zeros((20, 20), np.uint8)
    labels[2:12, 2:12] = 1
    labels[5:7, 5:7] = 0
    labels[15, 15] = 1
    sieving = Sieving(min_area_m2=3, fill_holes_m2=5)
    frame = polygonize(labels, VectorizeOptions(nodata=(0,), multi=False), sieving=sieving)
    assert frame.pixels.tolist() == [100]


def test_memory_does_not_hold_the_raster() -> None:
    """Sixteen times the rows take less than a quarter of a byte per pixel more."""

    class Tall:
        dtype = np.dtype(np.uint8)

        def __init__(self, rows: int) -> None:
            self.shape = (rows, 1024)

        def read(self, window: Window) -> Any:
            assert window.width == 1024
            return np.resize(tile, window.shape), None

    tile = landcover((256, 1024), 0.01)
    peaks = []
    for rows in (512, 512, 8192):  # the first compiles
        tracemalloc.start()
        source = SievedLabels.of(Tall(rows), [SieveJoin(6)], block=(256, 1024))
        for top in range(0, rows, 64):
            source.read(Window(top, 0, 64, 1024))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 8192 * 1024 / 4, peaks


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: Any) -> None:
    """Not even where the process is killed: the temporary file has no name."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []

    def stop(pixels: int) -> None:
        seen.append(sorted(os.listdir(tmp_path)))
        if len(seen) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SievedLabels.of(ArraySource(landcover()), [SieveJoin(9)], block=(50, 100), on_pixels=stop)
    assert seen == [[], [], []]


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.tif", landcover((40, 40))), str(tmp_path / "out.gpkg")
    for args, words in (
        (("--min-area", "-1"), "area -1.0 m2"),
        (("--fill-holes", "inf"), "area inf m2"),
        (("--drop-small",), "--min-area"),
    ):
        result = run(source, "-o", out, *args)
        assert result.exit_code == 2, result.output
        assert words in result.output
        assert result.output.count("\n") <= 2
        assert not Path(out).exists()
    with pytest.raises(InputError, match="nowhere on the earth"):
        polygonize(
            landcover((40, 40)),
            crs=32631,
            transform=Affine.translation(1e12, 1e12),
            sieving=Sieving(min_area_m2=5),
        )


def test_a_stream_is_sieved_too(tmp_path: Path) -> None:
    labels = Labels.open(write(tmp_path / "in.tif", landcover()))
    batches = polygon_batches(labels.sieved(Sieving(min_area_m2=2900)))
    assert sum(batch.num_rows for batch in batches) == len(
        polygonize(tmp_path / "in.tif", sieving=Sieving(min_area_m2=2900))
    )
