"""Outlines of things that people made: straight sides, right corners, within a tolerance.

Each ring is simplified (Douglas and Peucker), turned to the main direction of its sides
(length-weighted circular mean of four times their angle), and sides near that direction or
across it are laid parallel to it through their weighted middle; sides meet where their lines
cross. What would move a vertex beyond the tolerance, or make the polygon invalid, is not
done: such a polygon keeps its outline. Neighbours are not matched: this is for objects that
stand alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from affine import Affine
from numpy.typing import NDArray

__all__ = ["square_batch", "squared"]

_NEAR = np.radians(20.0)
_ATTEMPTS = (1.0, 0.5, 0.25)


def _main_direction(ring: NDArray[np.float64]) -> float:
    """Angle of the sides modulo a right angle."""
    sides = np.diff(ring, axis=0)
    length, angle = np.hypot(*sides.T), np.arctan2(sides[:, 1], sides[:, 0])
    return float(np.angle((length * np.exp(4j * angle)).sum()) / 4)


def _square_ring(ring: NDArray[np.float64], direction: float) -> NDArray[np.float64] | None:
    """A closed ring with its sides laid along and across a direction; None if there is none."""
    turn = np.array(
        [[np.cos(direction), np.sin(direction)], [-np.sin(direction), np.cos(direction)]]
    )
    points = ring @ turn.T
    sides = np.diff(points, axis=0)
    angle = np.arctan2(sides[:, 1], sides[:, 0])
    off = np.abs((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    along = np.abs(np.cos(angle)) > np.abs(np.sin(angle))
    # 0 free, 1 along, 2 across
    kind = np.where(off > _NEAR, 0, np.where(along, 1, 2))
    middle = (points[1:] + points[:-1]) / 2
    lines: list[tuple[int, NDArray[np.float64], NDArray[np.float64], float]] = []
    for k, m, s in zip(kind, middle, sides, strict=True):
        length = float(np.hypot(*s))
        if lines and k and lines[-1][0] == k:  # one side that was drawn in two
            _, other, way, weight = lines[-1]
            lines[-1] = (
                int(k),
                (other * weight + m * length) / (weight + length),
                way,
                weight + length,
            )
            continue
        way = (s, np.array([1.0, 0.0]), np.array([0.0, 1.0]))[k]
        lines.append((int(k), m, way, length))
    if len(lines) > 1 and lines[0][0] and lines[0][0] == lines[-1][0]:
        kept, last = lines[0], lines.pop()
        weight = kept[3] + last[3]
        lines[0] = (kept[0], (kept[1] * kept[3] + last[1] * last[3]) / weight, kept[2], weight)
    if len(lines) < 3:
        return None
    corners = []
    for (_, p, u, _), (_, q, v, _) in zip(lines, lines[1:] + lines[:1], strict=True):
        cross = u[0] * v[1] - u[1] * v[0]
        if abs(cross) < 1e-9 * np.hypot(*u) * np.hypot(*v):
            return None
        t = ((q[0] - p[0]) * v[1] - (q[1] - p[1]) * v[0]) / cross
        corners.append(p + t * u)
    closed = np.array([*corners, corners[0]])
    return np.asarray(closed @ turn)


def _square(polygon: Any, tolerance: float, share: float) -> Any:
    """A candidate, which may be wrong; None if there is none."""
    simple = shapely.simplify(polygon, tolerance * share)
    if simple.geom_type != "Polygon" or simple.is_empty:
        return None
    direction = _main_direction(np.asarray(simple.exterior.coords))
    rings = [simple.exterior, *simple.interiors]
    squares = [_square_ring(np.asarray(ring.coords), direction) for ring in rings]
    if squares[0] is None:
        return None
    return shapely.Polygon(squares[0], [s for s in squares[1:] if s is not None])


def squared(shapes: Any, tolerance: float) -> NDArray[Any]:
    """Square the outlines of polygons.

    Args:
        shapes: shapely polygons, or multipolygons whose parts are squared.
        tolerance: how far an outline may move, in the unit of the coordinates.

    Returns:
        As many valid shapes; every point of the new outline lies within the tolerance of the
        old one and the other way round (Hausdorff distance). Where squaring can't keep to
        that, the outline stays as it is.

    """
    out = np.empty(len(shapes), object)
    for i, shape in enumerate(shapes):
        if shape.geom_type == "MultiPolygon":
            whole = shapely.MultiPolygon(squared(list(shape.geoms), tolerance).tolist())
            out[i] = whole if whole.is_valid else shape
            continue
        out[i] = shape
        for share in _ATTEMPTS:
            candidate = _square(shape, tolerance, share)
            if candidate is not None and _is_allowed(candidate, shape, tolerance):
                out[i] = candidate
                break
    return out


def _is_allowed(candidate: Any, shape: Any, tolerance: float) -> bool:
    if not candidate.is_valid or candidate.is_empty:
        return False
    if len(candidate.interiors) != len(shape.interiors):
        return False
    moved = shapely.hausdorff_distance(candidate.boundary, shape.boundary, densify=0.05)
    return bool(moved <= tolerance)


def square_batch(
    batch: pa.RecordBatch, transform: Affine, pixel: tuple[float, float], tolerance: float
) -> pa.RecordBatch:
    """Square the geometries of a batch on the ground, where right angles are right.

    Args:
        batch: of polygons in the coordinates of ``transform``.
        transform: pixel to CRS.
        pixel: size of a pixel in metres along x and along y.
        tolerance: in metres.

    """
    ground = Affine.scale(*pixel) @ ~transform  # CRS to metres along rows and columns
    shapes = shapely.from_wkb(batch.column("geometry").to_numpy(zero_copy_only=False))
    on_ground = shapely.transform(shapes, _through(ground))
    square = squared(on_ground, tolerance)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name, of in (("area_m2", shapely.area), ("perimeter_m", shapely.length)):
        columns[name] = pc.multiply(columns[name], pa.array(of(square) / of(on_ground)))
    back = shapely.transform(square, _through(~ground))
    wkb = shapely.to_wkb(shapely.orient_polygons(back), byte_order=1)
    columns["geometry"] = pa.array(wkb, pa.binary())
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


def _through(t: Affine) -> Any:
    """What shapely.transform wants of an affine."""
    matrix = np.array([[t.a, t.b], [t.d, t.e]])
    return lambda points: points @ matrix.T + (t.c, t.f)
