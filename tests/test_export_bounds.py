"""Types and bounds read off WKB, held against shapely's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.export.bounds import bounds_of, types_of

RING = [(0, 0), (4, 0), (4, 3), (0, 3)]
SHAPES = [
    shapely.Polygon(RING),
    shapely.Polygon(RING, [[(1, 1), (2, 1), (2, 2)]]),
    shapely.MultiPolygon([shapely.Polygon(RING)]),
    shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, -7, 6, 8)]),
    shapely.Point(2, 9),
    shapely.LineString([(0, 1), (5, 1)]),
    shapely.Polygon(),
    shapely.MultiPolygon(),
    shapely.Polygon([(0, 0, 5), (4, 0, 6), (4, 3, 7)]),
    None,
]


def expected(shapes: np.ndarray) -> np.ndarray:
    return shapely.bounds(shapes)


@given(
    st.lists(
        st.tuples(st.integers(0, len(SHAPES) - 1), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
        max_size=40,
    ),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from([pa.binary(), pa.large_binary()]),
)
def test_bounds_are_shapelys(
    chosen: list[tuple[int, float, float]], skip: int, big_endian: bool, kind: pa.DataType
) -> None:
    shapes = np.array([SHAPES[i] for i, _, _ in chosen], object)
    for i, (_, x, y) in enumerate(chosen):
        shapes[i] = shapely.transform(shapes[i], lambda xy, by=(x, y): np.add(xy, by))
    wkb = shapely.to_wkb(shapes, byte_order=0 if big_endian else 1)
    array = pa.array(list(wkb), kind).slice(skip)
    np.testing.assert_array_equal(bounds_of(array), expected(shapes[skip:]).reshape(-1, 4))


def test_long_outlines_and_many_rows() -> None:
    rng = np.random.default_rng(3)
    points = shapely.points(rng.uniform(0, 1000, (60, 2)))
    shapes = shapely.buffer(points, rng.uniform(1, 90, 60), quad_segs=20)
    shapes[::3] = shapely.buffer(points[::3], 5, quad_segs=2)
    np.testing.assert_array_equal(
        bounds_of(pa.array(list(shapely.to_wkb(shapes)))), expected(shapes)
    )


_CODES = {0: 1, 1: 2, 3: 3, 6: 6, -1: 0}
"""The standard's number of each of shapely's types, and of no geometry."""


@given(st.lists(st.sampled_from([s for s in SHAPES if not shapely.has_z(s)])), st.integers(0, 5))
def test_types_are_shapelys(chosen: list[object], skip: int) -> None:
    shapes = np.array([*chosen, None], object)[:-1]
    array = pa.array(list(shapely.to_wkb(shapes)), pa.binary()).slice(skip)
    wanted = [_CODES[t] for t in shapely.get_type_id(shapes[skip:]).tolist()]
    assert types_of(array).tolist() == wanted


def test_a_polygon_with_heights_is_another_type() -> None:
    with_z = shapely.Polygon([(0, 0, 5), (4, 0, 6), (4, 3, 7)])
    for flavor in ("iso", "extended"):
        array = pa.array([shapely.to_wkb(with_z, flavor=flavor, byte_order=1)], pa.binary())
        assert types_of(array)[0] != 3


def test_rows_too_short_for_a_type_have_none() -> None:
    polygon = shapely.to_wkb(SHAPES[0])
    for rows in ([b"", polygon], [polygon, b""], [polygon, b"\x01\x03"], [b"\x01", polygon, b""]):
        wanted = [3 if row == polygon else 0 for row in rows]
        assert types_of(pa.array(rows, pa.binary())).tolist() == wanted
