"""Smoothed outlines: valid, matched, near, and the raster comes back; any tiling gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.cli import geoseg as cli
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import Category, Legend
from geoseg.outputs import to_polygons
from geoseg.vectorize.stream import (
    VectorizeOptions,
    polygonize_blocks,
    polygonize_traced,
    trace_block,
)
from geoseg.vectorize.strips import ArraySource, BlockLabels
from geoseg.vectorize.table import Attributes

Labels = NDArray[Any]


def table_of(labels: Labels, attributes: Any = None, **options: Any) -> Any:
    chosen = VectorizeOptions(**{"multi": False, **options})
    return pa.Table.from_batches(
        polygonize_blocks(ArraySource(labels), chosen, attributes or Attributes())
    )


def geometries(table: Any) -> NDArray[Any]:
    return shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))


def normalized(shapes: Any) -> list[bytes]:
    return sorted(g.wkb for g in shapely.normalize(np.asarray(shapes, object)))


@st.composite
def rasters(draw: st.DrawFn, most: int = 20) -> Labels:
    """Noise, blocks with steps and saddles, and slopes, masked here and there."""
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds, grain = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if draw(st.booleans()):
        coarse = rng.integers(0, kinds, (rows // grain + 1, cols // grain + 1))
        labels = np.kron(coarse, np.ones((grain, grain), int))[:rows, :cols]
    else:
        y, x = np.mgrid[:rows, :cols]
        slopes = rng.uniform(-1, 1, (kinds, 3)) * (1, 1, most / 2)
        labels = np.argmax([a * x + b * y + c for a, b, c in slopes], axis=0)
    noise = rng.random((rows, cols)) < draw(st.sampled_from([0.0, 0.1, 0.4]))
    labels = np.where(noise, rng.integers(0, kinds, (rows, cols)), labels).astype(np.uint8)
    gone = rng.random((rows, cols)) < draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    return np.ma.MaskedArray(labels, gone) if gone.any() else labels


tilings = st.tuples(st.integers(1, 17), st.integers(1, 17))


def at_centres(table: Any, shape: tuple[int, int]) -> Any:
    """The raster that polygons draw: the one polygon that each centre of a pixel is inside."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    out = np.ma.masked_all(shape, np.uint8)
    for outline, value in zip(geometries(table), table["value"].to_pylist(), strict=True):
        inside = shapely.contains_xy(outline, cols, rows)
        assert not (inside & ~np.ma.getmaskarray(out)).any()
        out[inside] = value
    return out


@settings(max_examples=200, deadline=None)
@given(rasters(), tilings)
def test_a_coverage_stays_one_and_gives_the_raster_back(labels: Labels, tile_size: Any) -> None:
    smooth = table_of(labels, tile_size=tile_size, smooth=True)
    plain = table_of(labels, shared_vertices=True)
    shapes, before = geometries(smooth), geometries(plain)
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert smooth.drop_columns("geometry").equals(plain.drop_columns("geometry"))
    rings = shapely.get_num_interior_rings
    assert rings(shapes).tolist() == rings(before).tolist()
    back = at_centres(smooth, labels.shape)
    np.testing.assert_array_equal(np.ma.getmaskarray(back), np.ma.getmaskarray(labels))
    np.testing.assert_array_equal(back.compressed(), np.ma.compressed(labels))
    if not np.ma.isMaskedArray(labels):
        assert shapely.area(shapes).sum() == labels.size
    for one, other in zip(shapes, before, strict=True):
        assert shapely.hausdorff_distance(one.boundary, other.boundary, 0.1) <= 0.5
        assert abs(one.area - other.area) <= other.length / 4


@settings(max_examples=80, deadline=None)
@given(rasters(), tilings, tilings, st.sampled_from([4, 8]), st.sampled_from([0, 0.7, 3]))
def test_every_byte_is_the_same_for_any_tiling(
    labels: Labels, one: Any, other: Any, connectivity: int, tolerance: float
) -> None:
    options = {"smooth": True, "connectivity": connectivity, "simplify_m": tolerance}
    first = table_of(labels, tile_size=one, **options)
    assert first.equals(table_of(labels, tile_size=other, threads=2, **options))


def definition(labels: Labels) -> list[Any]:
    """Smoothed outlines by their definition, nodes counted in the raster."""
    values = np.ma.filled(np.ma.asarray(labels).astype(int), -1)
    padded = np.pad(values, 1, constant_values=-1)
    rows, cols = values.shape

    def fixed(x: int, y: int) -> bool:
        a, b, c, d = padded[y : y + 2, x : x + 2].ravel()
        edges = int(a != b) + int(c != d) + int(a != c) + int(b != d)
        return edges > 2 or x in (0, cols) or y in (0, rows)

    def smooth(ring: Any) -> Any:
        points = np.asarray(ring.coords)[:-1].astype(int)
        n = len(points)
        held = [fixed(*point) for point in points]
        edges = np.roll(points, -1, 0) - points  # edge i begins at vertex i
        length = np.abs(edges).sum(1)
        steps = edges // length[:, None]
        turn = [int(np.cross(steps[i - 1], steps[i])) for i in range(n)]

        def is_step(i: int) -> bool:
            j = (i + 1) % n
            return length[i] == 1 and not held[i] and not held[j] and turn[i] == -turn[j]

        out = []
        for i in range(n):
            if held[i]:
                out.append(points[i])
                continue
            before = length[i - 1] / 2 if is_step(i) else 0.5
            behind = length[i] / 2 if is_step((i - 1) % n) else 0.5
            out += [points[i] - before * steps[i - 1], points[i] + behind * steps[i]]
        # what the raster has no node at and goes straight on is no vertex
        out = [p for i, p in enumerate(out) if (p != out[i - 1]).any()]
        kept = []
        for i, p in enumerate(out):
            to, on = p - out[i - 1], out[(i + 1) % len(out)] - p
            whole = (p == np.floor(p)).all() and fixed(*p.astype(int))
            if whole or np.cross(to, on) != 0:
                kept.append(p)
        return kept

    shapes = geometries(table_of(labels, shared_vertices=True))
    return [shapely.Polygon(smooth(s.exterior), [smooth(r) for r in s.interiors]) for s in shapes]


@pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional vectors")
@settings(max_examples=100, deadline=None)
@given(rasters())
def test_outlines_are_those_of_the_definition(labels: Labels) -> None:
    assert normalized(geometries(table_of(labels, smooth=True))) == normalized(definition(labels))


@settings(max_examples=40, deadline=None)
@given(rasters(), tilings)
def test_regions_that_touch_at_corners_are_valid_too(labels: Labels, tile_size: Any) -> None:
    options = {"connectivity": 8, "tile_size": tile_size}
    smooth = table_of(labels, smooth=True, **options)
    shapes = geometries(smooth)
    assert shapely.is_valid(shapes).all()
    assert smooth["pixels"].equals(table_of(labels, **options)["pixels"])


@settings(max_examples=60, deadline=None)
@given(rasters(), st.sampled_from([0.5, 1, 3, 20]))
def test_smoothed_then_simplified(labels: Labels, tolerance: float) -> None:
    both = geometries(table_of(labels, smooth=True, simplify_m=tolerance))
    plain = geometries(table_of(labels))
    assert shapely.is_valid(both).all()
    assert shapely.coverage_is_valid(both)
    assert len(both) == len(plain)
    if not np.ma.isMaskedArray(labels):
        assert shapely.area(both).sum() == pytest.approx(labels.size)
    for one, other in zip(both, plain, strict=True):
        assert shapely.hausdorff_distance(one.boundary, other.boundary, 0.2) <= tolerance + 0.5


@settings(max_examples=30, deadline=None)
@given(rasters(), st.integers(1, 12), st.integers(1, 12))
def test_blocks_traced_anywhere_give_the_same_bytes(
    labels: Labels, height: int, width: int
) -> None:
    rows, cols = labels.shape
    options = VectorizeOptions(smooth=True, tile_size=(5, 7), multi=False)
    traced = []
    for top in range(0, rows, height):
        row = []
        for left in range(0, cols, width):
            window = Window(top, left, min(height, rows - top), min(width, cols - left))
            own = labels[BlockLabels.halo(window).slices]
            row.append(trace_block(BlockLabels((rows, cols), window, own), options))
        traced.append(row)
    found = pa.Table.from_batches(polygonize_traced(traced, (rows, cols), options, Attributes()))
    assert found.equals(table_of(labels, smooth=True))


@pytest.mark.parametrize("run", [1, 2, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_staircase_becomes_a_straight_line(run: int, turned: bool) -> None:
    rows, cols = np.mgrid[:12, : 12 * run]
    labels = (cols // run < rows).astype(np.uint8)
    outlines = geometries(table_of(labels.T if turned else labels, smooth=True))
    steps = geometries(table_of(labels))
    assert all(shapely.get_num_coordinates(o) > 22 for o in steps)
    assert all(shapely.get_num_coordinates(o) < 11 for o in outlines)


def test_a_lone_pixel_and_a_square() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[1, 1] = 1
    labels[4:7, 4:7] = 1
    lone, square = geometries(table_of(labels, smooth=True, nodata=(0,)))
    assert normalized([lone]) == normalized([shapely.Point(1.5, 1.5).buffer(0.5, quad_segs=1)])
    assert square.area == 9 - 4 / 8
    assert shapely.get_num_coordinates(square) == 9


def landcover(shape: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), 3) for _ in range(4)]
    return np.argmax(fields, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [(32631, Affine(10, 0, 5e5, 0, -10, 5e6)), (4326, Affine(1e-4, 0, 10, 0, -1e-4, 45))],
)
def test_areas_and_lengths_are_those_of_what_is_written(crs: int, transform: Affine) -> None:
    from pyproj import CRS, Geod

    labels = landcover()
    wkt = CRS.from_epsg(crs).to_wkt()
    table = table_of(labels, Attributes(transform=transform, crs_wkt=wkt), smooth=True)
    frame = gpd.GeoSeries(geometries(table), crs=crs)
    # short edges: geodesics and straight lines of the CRS are the same
    degrees = frame.to_crs(4326)
    geod = Geod(ellps="WGS84")
    areas = [geod.geometry_area_perimeter(g)[0] for g in degrees]
    lengths = [geod.geometry_length(g.boundary) for g in degrees]
    np.testing.assert_allclose(table["area_m2"].to_numpy(), np.abs(areas), rtol=1e-5)
    np.testing.assert_allclose(table["perimeter_m"].to_numpy(), lengths, rtol=1e-5)
    plain = table_of(labels, Attributes(transform=transform, crs_wkt=wkt))
    by_class = [np.bincount(t["value"].to_numpy(), t["area_m2"].to_numpy()) for t in (table, plain)]
    np.testing.assert_allclose(*by_class, rtol=0.02)
    assert sum(by_class[0]) == pytest.approx(sum(by_class[1]), rel=1e-9)


def test_the_command_line_and_maps(tmp_path: Path) -> None:
    labels, where = landcover(), Affine(10, 0, 5e5, 0, -10, 5e6)
    source, out = str(tmp_path / "in.tif"), str(tmp_path / "out.parquet")
    with rasterio.open(
        source, "w", "GTiff", 80, 60, 1, crs="EPSG:32631", transform=where, dtype="uint8"
    ) as file:
        file.write(labels, 1)
    result = CliRunner().invoke(cli, ["polygonize", source, "-o", out, "--smooth"])
    assert result.exit_code == 0, result.output
    got = gpd.read_parquet(out).geometry.apply(lambda g: g.geoms[0])
    wanted = geometries(table_of(labels, Attributes(transform=where), smooth=True))
    assert normalized(got.to_numpy()) == normalized(wanted)
    from odc.geo.geobox import GeoBox

    legend = Legend(tuple(Category(i, f"class {i}", "#808080") for i in range(4)))
    kept = SegmentMap.from_arrays(labels, GeoBox((60, 80), where, "EPSG:32631"), legend)
    frame = to_polygons(kept, smooth=True).geometry.apply(lambda g: g.geoms[0])
    assert normalized(frame.to_numpy()) == normalized(wanted)
    asked = ["map", source, "-m", "otsu:b1", "-o", str(tmp_path / "map.parquet")]
    result = CliRunner().invoke(cli, [*asked, "--smooth", "--quiet"])
    assert result.exit_code == 0, result.output
    made = gpd.read_parquet(tmp_path / "map.parquet").geometry
    corners = shapely.get_coordinates(made.to_numpy()) % 10
    assert shapely.coverage_is_valid(made.apply(lambda g: g.geoms[0]).to_numpy())
    assert (corners == 5).any()


@pytest.mark.parametrize("other", [{"square_m": 2.0}, {"max_vertices": 100}])
def test_what_does_not_go_together_is_said(other: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="smoothing"):
        VectorizeOptions(smooth=True, **other)
