"""Vectorizing is exact: any raster, any tiling, any number of threads, any cut into blocks."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import Category, Legend
from geoseg.vectorize import rechunk
from geoseg.vectorize.merge import merge
from geoseg.vectorize.stream import (
    VectorizeOptions,
    merge_blocks,
    polygonize_blocks,
    polygonize_traced,
    trace_block,
)
from geoseg.vectorize.strips import ArraySource, BlockLabels
from geoseg.vectorize.table import Attributes, pack_labels, polygon_schema

SINGLE = VectorizeOptions(multi=False)


def table_of(
    labels: NDArray[Any], score: Any = None, attributes: Any = None, **options: Any
) -> Any:
    chosen = VectorizeOptions(**{"multi": False, **options})
    source = ArraySource(labels, score)
    batches = polygonize_blocks(source, chosen, attributes or Attributes())
    return pa.Table.from_batches(batches)


def geometries(table: pa.Table) -> NDArray[Any]:
    return shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))


def normalized(shapes: Any) -> list[bytes]:
    return [g.wkb for g in shapely.normalize(np.asarray(shapes, object))]


def oracle(labels: NDArray[Any], valid: Any = None) -> dict[bytes, Any]:
    found = rasterio.features.shapes(labels, mask=valid, connectivity=4)
    pairs = [(shapely.geometry.shape(s), v) for s, v in found]
    return dict(zip(normalized([s for s, _ in pairs]), [v for _, v in pairs], strict=True))


@st.composite
def rasters(draw: st.DrawFn, most: int = 24) -> NDArray[np.uint8]:
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    kinds, grain = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    coarse = rng.integers(0, kinds, (rows // grain + 1, cols // grain + 1))
    labels = np.kron(coarse, np.ones((grain, grain)))[:rows, :cols].astype(np.uint8)
    noise = rng.random((rows, cols)) < draw(st.sampled_from([0.0, 0.1, 0.4]))
    return np.where(noise, rng.integers(0, kinds, (rows, cols)), labels).astype(np.uint8)


tilings = st.tuples(st.integers(1, 17), st.integers(1, 17))


@settings(max_examples=300, deadline=None)
@given(rasters(), tilings, st.booleans())
def test_polygons_equal_gdals(labels: Any, tile_size: Any, leave_out: bool) -> None:
    nodata = (0,) if leave_out else ()
    table = table_of(labels, tile_size=tile_size, nodata=nodata)
    shapes = geometries(table)
    expected = oracle(labels, labels != 0 if leave_out else None)
    got = dict(zip(normalized(shapes), table["value"].to_pylist(), strict=True))
    assert len(got) == len(shapes)
    assert got == expected
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).tolist() == table["pixels"].to_pylist()
    assert shapely.is_ccw(shapely.get_exterior_ring(shapes)).all()


def test_holes_come_by_lower_right_vertex_also_those_cut_off_a_ring_that_touches_itself() -> None:
    labels = np.ones((14, 14), np.uint8)
    for row, col in [(2, 2), (3, 3), (4, 4), (3, 9), (8, 3), (9, 2), (8, 9)]:
        labels[row, col] = 2
    whole = table_of(labels, tile_size=(40, 40))
    assert whole.equals(table_of(labels, tile_size=(3, 2)))
    (outer,) = (p for p in geometries(whole) if len(p.interiors))
    last = [max((y, x) for x, y in ring.coords) for ring in outer.interiors]
    assert len(last) == 7
    assert last == sorted(last)


@settings(max_examples=60, deadline=None)
@given(rasters(), tilings, tilings, st.booleans(), st.sampled_from([4, 8]))
def test_every_byte_is_the_same_for_any_tiling(
    labels: Any, one: Any, other: Any, shared: bool, connectivity: int
) -> None:
    rng = np.random.default_rng(labels.size)
    score = rng.integers(0, 256, labels.shape).astype(np.uint8)
    options = {"shared_vertices": shared, "connectivity": connectivity, "nodata": (1,)}
    first = table_of(labels, score, tile_size=one, **options)
    assert first.equals(table_of(labels, score, tile_size=other, threads=2, **options))


@settings(max_examples=60, deadline=None)
@given(rasters(), tilings)
def test_scores_and_edges_are_those_of_the_pixels(labels: Any, tile_size: Any) -> None:
    rng = np.random.default_rng(labels.size)
    score = np.where(rng.random(labels.shape) < 0.3, 255, rng.integers(0, 255, labels.shape))
    table = table_of(labels, score.astype(np.uint8), tile_size=tile_size)
    for shape, row in zip(geometries(table), table.to_pylist(), strict=True):
        inside = rasterio.features.rasterize([shape], labels.shape) == 1
        levels = score[inside & (score != 255)]
        if len(levels):
            assert row["score"] == np.float32(levels.sum() / len(levels) / 254)
        else:
            assert row["score"] is None
        ring = np.pad(inside, 1)
        edge = inside[0].any() or inside[-1].any() or inside[:, 0].any() or inside[:, -1].any()
        assert row["on_edge"] == edge, ring


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "bool"])
def test_types_that_gdal_knows(dtype: str) -> None:
    rng = np.random.default_rng(3)
    extremes = [0, 1] if dtype == "bool" else [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1]
    labels = rng.choice(np.array(extremes), (40, 33)).astype(dtype)
    table = table_of(labels, tile_size=(7, 9))
    plain = labels.astype(np.int32)
    got = dict(zip(normalized(geometries(table)), table["value"].to_pylist(), strict=True))
    assert got == oracle(plain)
    assert table["value"].type == pa.from_numpy_dtype(np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["uint32", "int64", "uint64"])
@pytest.mark.parametrize("with_nodata", [False, True])
def test_types_that_gdal_refuses(dtype: str, with_nodata: bool) -> None:
    rng = np.random.default_rng(4)
    info = np.iinfo(dtype)
    beyond = min(2**53, info.max - 3)  # neighbours that a float can't tell apart
    values = np.array([info.min, info.max, beyond, beyond + 1, 5], dtype)
    index = rng.integers(0, len(values), (31, 37))
    nodata = (int(info.max),) if with_nodata else ()
    table = table_of(values[index], tile_size=(8, 5), nodata=nodata)
    expected = oracle(index.astype(np.int32), index != 1 if with_nodata else None)
    got = dict(zip(normalized(geometries(table)), table["value"].to_pylist(), strict=True))
    assert got == {key: int(values[int(v)]) for key, v in expected.items()}


@settings(max_examples=60, deadline=None)
@given(rasters(), tilings, st.sampled_from(["uint8", "int16", "uint64"]))
def test_masks_leave_out_whatever_lies_below(labels: Any, tile_size: Any, dtype: str) -> None:
    rng = np.random.default_rng(labels.size)
    masked = rng.random(labels.shape) < 0.3
    info = np.iinfo(dtype)
    values = np.array([info.min, info.max, 7, 9], dtype)
    whole = np.ma.MaskedArray(values[labels], masked)
    table = table_of(whole, tile_size=tile_size)
    assert set(normalized(geometries(table))) == set(oracle(labels, ~masked))


def test_all_values_of_a_byte_in_use_and_a_mask() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = np.zeros((16, 16), bool)
    mask[3, 4] = mask[15, 15] = True
    table = table_of(np.ma.MaskedArray(labels, mask), tile_size=(5, 5))
    assert sorted(table["value"].to_pylist()) == sorted(set(range(256)) - {52, 255})


def test_nothing_at_all_has_the_same_columns() -> None:
    empty = table_of(np.zeros((9, 9), np.uint8), nodata=(0,))
    some = table_of(np.ones((9, 9), np.uint8), nodata=(0,))
    assert len(empty) == 0
    assert empty.schema == some.schema == polygon_schema(Attributes())


# connectivity 8


@settings(max_examples=100, deadline=None)
@given(rasters(), tilings)
def test_connectivity_8_gives_the_groups_of_a_labelling(labels: Any, tile_size: Any) -> None:
    from skimage.measure import label

    table = table_of(labels, tile_size=tile_size, connectivity=8)
    shapes = geometries(table)
    assert shapely.is_valid(shapes).all()
    groups = label(labels.astype(int) + 1, connectivity=2)
    burnt = rasterio.features.rasterize(
        zip(shapes, range(1, len(shapes) + 1), strict=True), labels.shape, dtype="int32"
    )
    pairs = np.unique(np.stack([groups.ravel(), burnt.ravel()]), axis=1)
    assert pairs.shape[1] == groups.max() == len(shapes)
    assert np.bincount(burnt.ravel())[1:].tolist() == table["pixels"].to_pylist()


# coverage


@settings(max_examples=100, deadline=None)
@given(rasters(), tilings)
def test_shared_vertices_make_a_valid_coverage(labels: Any, tile_size: Any) -> None:
    shared = table_of(labels, tile_size=tile_size, shared_vertices=True)
    plain = table_of(labels)
    shapes = geometries(shared)
    assert shapely.coverage_is_valid(shapes)
    assert normalized(shapely.simplify(shapes, 0)) == normalized(
        shapely.simplify(geometries(plain), 0)
    )
    values = zip(shapes, shared["value"].to_pylist(), strict=True)
    burnt = rasterio.features.rasterize(values, labels.shape, fill=99, dtype="uint8")
    assert (burnt == labels).all()


@settings(max_examples=120, deadline=None)
@given(rasters(), tilings, st.sampled_from([0.5, 0.75, 1, 1.5, 3, 10, 50]), st.booleans())
def test_simplified_coverages_have_no_gap_and_no_overlap(
    labels: Any, tile_size: Any, tolerance: float, leave_out: bool
) -> None:
    nodata = (0,) if leave_out else ()
    simplified = table_of(labels, tile_size=tile_size, simplify_m=tolerance, nodata=nodata)
    shapes, plain = geometries(simplified), geometries(table_of(labels, nodata=nodata))
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert len(shapes) == len(plain)
    if not leave_out:
        assert shapely.area(shapes).sum() == pytest.approx(labels.size)
    for one, other in zip(shapes, plain, strict=True):
        assert shapely.hausdorff_distance(one.boundary, other.boundary, 0.2) <= tolerance + 1e-9
    again = table_of(labels, tile_size=(24, 24), simplify_m=tolerance, nodata=nodata)
    assert again.equals(simplified)


@settings(max_examples=30, deadline=None)
@given(rasters(40), tilings)
def test_diced_polygons_cover_the_same_pixels(labels: Any, tile_size: Any) -> None:
    diced = table_of(labels, labels, tile_size=tile_size, max_vertices=64)
    shapes = geometries(diced)
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).tolist() == diced["pixels"].to_pylist()
    assert max(shapely.get_num_coordinates(shapes) - shapely.get_num_interior_rings(shapes)) <= 65
    burnt = rasterio.features.rasterize(
        zip(shapes, diced["value"].to_pylist(), strict=True), labels.shape, fill=99, dtype="uint8"
    )
    assert (burnt == labels).all()
    assert shapely.area(shapes).sum() == labels.size
    assert diced.equals(table_of(labels, labels, max_vertices=64))


@settings(max_examples=60, deadline=None)
@given(rasters(), st.sampled_from([0.6, 1.5, 4]))
def test_squared_outlines_are_valid_and_stay_near(labels: Any, tolerance: float) -> None:
    transform = Affine(2, 0, 100, 0, -3, 50)
    attributes = Attributes(transform=transform)
    plain = geometries(table_of(labels, None, attributes))
    square = geometries(table_of(labels, None, attributes, square_m=tolerance))
    assert shapely.is_valid(square).all()
    for one, other in zip(plain, square, strict=True):
        assert shapely.hausdorff_distance(one.boundary, other.boundary, 0.05) <= tolerance * 1.001


def test_a_ragged_turned_rectangle_becomes_a_rectangle() -> None:
    rows, cols = np.mgrid[:80, :80]
    along, across = (cols - 40) * 0.8 + (rows - 40) * 0.6, (rows - 40) * 0.8 - (cols - 40) * 0.6
    labels = ((np.abs(along) < 28) & (np.abs(across) < 15)).astype(np.uint8)
    shape = geometries(table_of(labels, nodata=(0,), square_m=2.5))[0]
    assert len(shape.exterior.coords) == 5
    assert shape.area == pytest.approx(56 * 30, rel=0.03)
    sides = np.diff(np.asarray(shape.exterior.coords), axis=0)
    assert abs((sides[:-1] * sides[1:]).sum(axis=1)).max() < 1e-6  # right angles


# blocks


# a run that enters a block at one row and leaves its left neighbour's neighbour at another
ENTERS_ELSEWHERE = np.array(
    [
        [int(pixel) for pixel in row]
        for row in (
            "111101111101000101000111101011000",
            "000010000001011111000100010111110",
            "101001010001010001001101010000000",
            "010100010011011000011000011101001",
            "000100100010111100111110100010001",
        )
    ],
    np.uint8,
)


@settings(max_examples=60, deadline=None)
@given(rasters(40), tilings, st.integers(0, 2**32), st.sampled_from([4, 8]))
@example(ENTERS_ELSEWHERE, (5, 1), 3652, 4)
def test_blocks_merged_in_any_order_equal_the_stream(
    labels: Any, block: Any, seed: int, connectivity: int
) -> None:
    score = (labels * 37).astype(np.uint8)
    options = VectorizeOptions(tile_size=(5, 7), connectivity=connectivity, nodata=(2,))
    rng = np.random.default_rng(seed)
    rows = []
    for r in range(0, labels.shape[0], block[0]):
        row = []
        for c in range(0, labels.shape[1], block[1]):
            window = Window(r, c, *block) & Window(0, 0, *labels.shape)
            part = BlockLabels(
                labels.shape,
                window,
                labels[BlockLabels.halo(window).slices],
                score[window.slices],
            )
            row.append(pickle.loads(pickle.dumps(trace_block(part, options))))
        rows.append(row)
    expected = pa.Table.from_batches(
        polygonize_blocks(ArraySource(labels, score), options, Attributes())
    )
    by_row = polygonize_traced(rows, labels.shape, options, Attributes())
    assert pa.Table.from_batches(by_row).equals(expected)

    def reduced(parts: list[Any]) -> Any:
        while len(parts) > 1:  # any two neighbours
            i = int(rng.integers(len(parts) - 1))
            parts[i : i + 2] = [merge_blocks(parts[i], parts[i + 1])]
        return parts[0]

    whole = reduced([reduced(row) for row in rows])
    assert len(whole[1].arcs) == 0
    as_tree = polygonize_traced([[whole]], labels.shape, options, Attributes())
    assert pa.Table.from_batches(as_tree).equals(expected)


def test_blocks_that_are_no_neighbours_are_refused() -> None:
    labels = np.ones((8, 8), np.uint8)
    windows = [Window(0, 0, 4, 4), Window(4, 4, 4, 4)]
    parts = [
        trace_block(BlockLabels((8, 8), w, labels[BlockLabels.halo(w).slices]), SINGLE)[1]
        for w in windows
    ]
    with pytest.raises(ValueError, match="no neighbours"):
        merge(*parts)


# columns


def test_columns_of_a_map() -> None:
    legend = Legend((Category(0, "water", "#0000ff"), Category(3, "tree", "#00ff00", True)))
    category = np.array([[0, 0, 3, 3], [0, 0, 3, 3], [255, 0, 0, 0]], np.uint8)
    instance = np.array([[0, 0, 1, 2], [0, 0, 1, 2], [0, 0, 0, 0]])
    labels = pack_labels(category, instance)
    score = np.full(labels.shape, 127, np.uint8)
    attributes = Attributes(
        transform=Affine(10, 0, 500000, 0, -10, 4600000), crs_wkt=_utm(), legend=legend
    )
    table = table_of(labels, score, attributes, nodata=(255,))
    rows = table.to_pylist()
    assert [(r["category"], r["isthing"], r["instance_id"]) for r in rows] == [
        ("tree", True, 1),
        ("tree", True, 2),
        ("water", False, None),
    ]
    assert [r["pixels"] for r in rows] == [2, 2, 7]
    assert [r["segment_id"] for r in rows] == [0, 1, 2]
    assert rows[0]["score"] == np.float32(0.5)
    assert rows[0]["area_m2"] == pytest.approx(2 * 100 / 0.9996**2, rel=1e-6)
    assert rows[0]["perimeter_m"] == pytest.approx(60 / 0.9996, rel=1e-6)
    with pytest.raises(InputError, match="category 7"):
        table_of(np.full((2, 2), 7), None, attributes)


def _utm() -> str:
    from pyproj import CRS

    return str(CRS.from_epsg(32631).to_wkt())


@pytest.mark.parametrize(
    ("epsg", "transform"),
    [
        (32631, Affine(10, 0, 300000, 0, -10, 5400000)),
        (4326, Affine(0.01, 0, 10, 0, -0.01, 60)),
        (4326, Affine(0.5, 0, -180, 0, -0.5, 75)),
        (2264, Affine(30, 4, 1500000, 3, -30, 700000)),  # US feet, rotated
        (3857, Affine(100, 0, 1e6, 0, -100, 8e6)),
        (3031, Affine(1000, 0, -50000, 0, -1000, 60000)),  # over the pole
    ],
)
def test_areas_and_lengths_are_geodesic(epsg: int, transform: Affine) -> None:
    from pyproj import CRS

    crs = CRS.from_epsg(epsg)
    rng = np.random.default_rng(epsg)
    labels = np.kron(rng.integers(0, 3, (12, 9)), np.ones((3, 3))).astype(np.uint8)
    attributes = Attributes(transform=transform, crs_wkt=crs.to_wkt())
    table = table_of(labels, None, attributes)
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    geod = crs.get_geod()
    for shape, row in zip(geometries(table), table.to_pylist(), strict=True):
        # short segments: a pixel's edge is a line of the grid, not a geodesic
        fine = shapely.segmentize(shape, abs(transform.a) / 32)
        degrees = shapely.transform(fine, to_degrees.transform, interleaved=False)
        area, _ = geod.geometry_area_perimeter(shapely.geometry.polygon.orient(degrees))
        length = geod.geometry_length(degrees.boundary)  # holes too
        assert row["area_m2"] == pytest.approx(abs(area), rel=2e-4 if transform.a == 0.5 else 2e-6)
        assert row["perimeter_m"] == pytest.approx(length, rel=2e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_tiles_as_wide_as_their_corners_allow(threads: int) -> None:
    """Noise makes tiles narrow, calm rows wide ones; the bytes are those of fixed tiles."""
    rng = np.random.default_rng(3)
    labels = np.ones((1200, 900), np.uint8)
    labels[:500] = rng.integers(0, 4, (500, 900))
    labels[700:, ::37] = 2

    def rows(**options: Any) -> pa.Table:
        chosen = VectorizeOptions(nodata=(0,), **options)
        return pa.Table.from_batches(polygonize_blocks(ArraySource(labels), chosen, Attributes()))

    assert rows(threads=threads).equals(rows(tile_size=(300, 70)))


@example(sizes=[10, 55, 10], cuts=[1])
@given(
    sizes=st.lists(st.integers(1, 60), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_batches_end_at_the_same_rows_however_they_come(sizes: list[int], cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rechunk, "_BATCH_BYTES", 50)
        patch.setattr(rechunk, "_BATCH_ROWS", 7)
        whole = _batch_ends([sizes])
        edges = sorted({min(c, len(sizes)) for c in cuts} | {0, len(sizes)})
        assert _batch_ends([sizes[a:b] for a, b in itertools.pairwise(edges)]) == whole
    for start, end in itertools.pairwise([0, *whole]):
        batch = sizes[start:end]
        assert 1 <= len(batch) <= 7
        assert sum(batch[:-1]) < 50
        if max(batch) >= 50:
            assert len(batch) == 1


def _batch_ends(pieces: list[list[int]]) -> list[int]:
    """Where batches end, counted over all pieces; what is left waits."""
    chunks, ends, rows = rechunk.Chunks(), [], 0
    for piece in pieces:
        at = 0
        for start, end, ended in chunks.cut(np.array(piece, np.int64)):
            assert start == at
            assert end >= start
            at = end
            if ended:
                ends.append(rows + end)
        assert at == len(piece)
        rows += len(piece)
    return ends
