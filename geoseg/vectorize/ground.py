"""Areas and lengths on the ellipsoid of figures drawn in pixels, millions of them at once.

The grid is a smooth surface in space: pixel -> CRS -> longitude and latitude -> geocentric
coordinates. Its first fundamental form (E, F, G) turns pixel lengths into metres, and
sqrt(EG - F^2) turns pixel areas into square metres. Both are interpolated over the scene by
Chebyshev polynomials, sampled once; no figure is projected. That holds for degrees, feet,
stretched projections, rotated grids, across the antimeridian and over the poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from geoseg.vectorize.columns import PIECE_HEAD, PIECE_TAIL
from geoseg.vectorize.compiled import inner, kernel
from geoseg.vectorize.intrinsics import load_i64
from geoseg.vectorize.rings import Rings

__all__ = ["Ground", "measure"]

Coefficients = NDArray[np.float64]

_LEAST_SPAN_M = 10_000.0
"""Smaller scenes are sampled this wide: the noise of inverse projections then weighs nothing."""
_PRECISION = 1e-9


@dataclass(frozen=True)
class Ground:
    """Metric of a grid, as polynomials in ``(x - centre) / half``, ``(y - centre) / half``.

    Attributes:
        frame: centre and half width in x, then in y, in pixels.
        e: squared metres per pixel step in x (a row's direction).
        f: the mixed term.
        g: squared metres per pixel step in y.
        h: integral of square metres per pixel along x.

    """

    frame: tuple[float, float, float, float]
    e: Coefficients
    f: Coefficients
    g: Coefficients
    h: Coefficients

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Size of a pixel in metres along x and along y, at the centre."""
        return math.sqrt(self.e[0, 0]), math.sqrt(self.g[0, 0])

    @cached_property
    def short_px(self) -> float:
        """Edges up to this are as good as straight in the metric: their middle is enough."""
        bend = 1e-12
        for c in (self.e, self.g, self.h):
            i, j = np.indices(c.shape)
            size = max(abs(c.flat[0]), np.abs(c).max())
            bend = max(bend, float((np.abs(c) * (i * (i - 1) + j * (j - 1))).sum() / size))
        return min(self.frame[1], self.frame[3]) * math.sqrt(24 * _PRECISION / bend)

    def divided(self, parts: int) -> Ground:
        """The same ground under a grid of pixels cut into ``parts`` along each axis."""
        x, half_x, y, half_y = self.frame
        return Ground(
            (x * parts, half_x * parts, y * parts, half_y * parts),
            self.e / parts**2,
            self.f / parts**2,
            self.g / parts**2,
            self.h / parts,
        )

    @classmethod
    def of(cls, transform: Affine, crs_wkt: str, shape: tuple[int, int]) -> Ground | None:
        """Sample the grid; None where it has no place on the earth."""
        import pyproj

        crs = pyproj.CRS.from_wkt(crs_wkt)
        rows, cols = shape
        if not (crs.is_geographic or crs.is_projected or crs.is_compound):
            unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
            return cls._flat(transform, unit, shape)
        to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        geod = crs.get_geod()

        def surface(x: Any, y: Any) -> NDArray[np.float64]:
            lon, lat = to_degrees.transform(
                transform.a * x + transform.b * y + transform.c,
                transform.d * x + transform.e * y + transform.f,
            )
            lam, phi = np.radians(lon), np.radians(lat)
            n = geod.a / np.sqrt(1 - geod.es * np.sin(phi) ** 2)
            return np.stack(
                [
                    n * np.cos(phi) * np.cos(lam),
                    n * np.cos(phi) * np.sin(lam),
                    n * (1 - geod.es) * np.sin(phi),
                ]
            )

        middle = surface(
            cols / 2 + np.array([-0.5, 0.5, 0, 0]), rows / 2 + np.array([0, 0, -0.5, 0.5])
        )
        if not np.isfinite(middle).all():
            return None
        pixel = [float(np.linalg.norm(middle[:, i] - middle[:, i + 1])) for i in (0, 2)]
        half = [max(n / 2, _LEAST_SPAN_M / 2 / max(p, 1e-9)) for n, p in zip((cols, rows), pixel)]
        span = max(h * p for h, p in zip(half, pixel, strict=True))
        degree = 6 if span < 100_000 else 16
        frame = (cols / 2, half[0], rows / 2, half[1])
        return cls._fitted(surface, frame, degree) or (
            cls._fitted(surface, (cols / 2, cols / 2, rows / 2, rows / 2), degree)
        )

    @classmethod
    def _fitted(cls, surface: Any, frame: tuple[float, ...], degree: int) -> Ground | None:
        nodes = chebyshev.chebpts1(degree + 1)
        s, t = np.meshgrid(nodes, nodes, indexing="ij")
        points = surface(frame[0] + frame[1] * s, frame[2] + frame[3] * t)
        if not np.isfinite(points).all():
            return None
        to_coefficients = np.linalg.inv(chebyshev.chebvander(nodes, degree))

        def fit(values: Any) -> Coefficients:
            return np.asarray(to_coefficients @ values @ to_coefficients.T)

        def slope(values: Any, axis: int) -> NDArray[np.float64]:
            derived = chebyshev.chebder(fit(values), axis=axis)
            return np.asarray(chebyshev.chebval2d(s, t, derived))

        centred = points - points.mean(axis=(1, 2), keepdims=True)
        along_x = np.stack([slope(p, 0) for p in centred]) / frame[1]
        along_y = np.stack([slope(p, 1) for p in centred]) / frame[3]
        e, f, g = (along_x**2).sum(0), (along_x * along_y).sum(0), (along_y**2).sum(0)
        area = _trimmed(fit(np.sqrt(np.maximum(e * g - f * f, 0))))
        mixed = fit(f)
        mixed[np.abs(mixed) < _PRECISION * np.sqrt(e.max() * g.max())] = 0
        return cls(
            (frame[0], frame[1], frame[2], frame[3]),
            _powers(_trimmed(fit(e))),
            _powers(_trimmed(mixed)),
            _powers(_trimmed(fit(g))),
            _powers(np.asarray(chebyshev.chebint(area, axis=0) * frame[1], float)),
        )

    @classmethod
    def _flat(cls, transform: Affine, unit: float, shape: tuple[int, int]) -> Ground:
        """A plane with a length unit: an engineering CRS."""
        t, half = transform, shape[1] / 2
        e, f = t.a**2 + t.d**2, t.a * t.b + t.d * t.e
        g = t.b**2 + t.e**2
        parts = [np.array([[value * unit**2]]) for value in (e, f, g)]
        area = np.array([[0.0], [abs(t.determinant) * unit**2 * half]])
        frame = (half, half, shape[0] / 2, shape[0] / 2)
        return cls(frame, parts[0], parts[1], parts[2], area)


def _trimmed(c: Coefficients) -> Coefficients:
    """Without trailing coefficients that add nothing."""
    kept = np.argwhere(np.abs(c) > _PRECISION * max(np.abs(c).max(), 1e-300))
    if not len(kept):
        return np.zeros((1, 1))
    rows, cols = kept.max(axis=0) + 1
    return c[:rows, :cols]


def _powers(c: Coefficients) -> Coefficients:
    """Chebyshev to power coefficients along both axes."""
    rows = np.stack([np.pad(_cheb2poly(v), (0, c.shape[0] - len(_cheb2poly(v)))) for v in c.T], 1)
    both = [np.pad(_cheb2poly(v), (0, c.shape[1] - len(_cheb2poly(v)))) for v in rows]
    return np.ascontiguousarray(np.stack(both))


def _cheb2poly(c: Coefficients) -> Coefficients:
    return np.asarray(chebyshev.cheb2poly(c))


@inner
def _at(c: Any, s: float, t: float) -> float:
    total = 0.0
    for i in range(c.shape[0] - 1, -1, -1):
        row = 0.0
        for j in range(c.shape[1] - 1, -1, -1):
            row = row * t + c[i, j]
        total = total * s + row
    return total


@kernel
def _measure(rings: Any, polygons: Any, order: Any, metric: Any, out: Any) -> None:
    """Fill ``out`` (n, 2) with area and perimeter of the polygons ``order``."""
    address, count = rings
    frame, short, e, f, g, h = metric
    for i in range(order.size):
        area, length = 0.0, 0.0
        first = polygons[order[i], PIECE_HEAD]
        for r in range(first, first + polygons[order[i], PIECE_TAIL]):
            n, s0 = count[r], address[r]
            both = load_i64(s0 + 8 * (n - 1))
            px, py = np.float64(both & 0xFFFFFFFF), np.float64(both >> 34)
            for v in range(n):
                both = load_i64(s0 + 8 * v)
                x, y = np.float64(both & 0xFFFFFFFF), np.float64(both >> 34)
                dx, dy = x - px, y - py
                # the middle of short edges, two Gauss points per piece of long ones
                span = abs(dx) + abs(dy)
                points: Any = 1
                if span > short:
                    points = 2 * np.int64(np.ceil(span / (16 * short)))
                for k in range(points):
                    at = 0.5
                    if points > 1:
                        at = (2 * (k // 2) + 1 - 0.57735026918962576 * (1 - 2 * (k & 1))) / points
                    s = (px + at * dx - frame[0]) / frame[1]
                    t = (py + at * dy - frame[2]) / frame[3]
                    if dx == 0:
                        squared = _at(g, s, t) * dy * dy
                    elif dy == 0:
                        squared = _at(e, s, t) * dx * dx
                    else:
                        squared = _at(e, s, t) * dx * dx + 2 * _at(f, s, t) * dx * dy
                        squared += _at(g, s, t) * dy * dy
                    length += np.sqrt(max(squared, 0.0)) / points
                    if dy != 0:
                        area += _at(h, s, t) * dy / points
                px, py = x, y
        out[i, 0], out[i, 1] = area, length


def measure(
    rings: Rings, order: NDArray[np.int64], ground: Ground
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area in square metres and perimeter (holes included) in metres of some polygons."""
    out = np.empty((len(order), 2))
    metric = (ground.frame, ground.short_px, ground.e, ground.f, ground.g, ground.h)
    _measure((rings.address, rings.count), rings.table, order, metric, out)
    return out[:, 0], out[:, 1]
