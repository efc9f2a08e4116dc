"""SegmentMap: the result, a category (and an instance, and a score) for every pixel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.engine.store import MAP_DTYPES, MAP_FILL, MapLayout, create_map, open_map
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend
from geoseg.models.segmenter import Task

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from odc.geo.geobox import GeoBox

__all__ = ["SegmentMap"]

_SHARDS_AT_ONCE = 2
"""While one is read from the disk, or the network, another is unpacked."""


def _geobox_to_dict(geobox: GeoBox) -> dict[str, Any]:
    crs = geobox.crs
    return {
        "crs_wkt": None if crs is None else crs.to_wkt(),
        "transform": list(geobox.affine)[:6],
        "shape": [int(n) for n in geobox.shape],
    }


def _geobox_from_dict(data: Mapping[str, Any]) -> GeoBox:
    from affine import Affine
    from odc.geo.geobox import GeoBox

    return GeoBox(tuple(data["shape"]), Affine(*data["transform"]), data["crs_wkt"])


def _read(array: Any, window: Window) -> NDArray[Any]:
    """A window of a stored array, a few shards side by side at a time: zarr unpacks all that it
    is asked for at once, and holds it twice.
    """
    out = np.empty(window.shape, array.dtype)
    rows = slice(window.row_off, window.row_end)
    step = _SHARDS_AT_ONCE * (array.shards or array.chunks)[1]
    col = window.col_off
    while col < window.col_end:
        end = min(col - col % step + step, window.col_end)
        out[:, col - window.col_off : end - window.col_off] = array[rows, col:end]
        col = end
    return out


@dataclass(frozen=True, kw_only=True)
class SegmentMap:
    """category_id uint8 (255 = nodata), score uint8 (level / 254, 255 = none) and, for things,
    instance_id uint32 (0 = none), on the scene's grid.

    Attributes:
        url: the zarr group that holds it.
        geobox: of ``region``: crs, affine, shape.
        region: the window of the stored arrays that was mapped.
        legend, task: what the numbers mean.
        georeferenced: False where coordinates are pixels.
        provenance: scene, model, options, versions (JSON values).
        counts: pixels per category_id, and of nodata under 255.

    """

    url: str
    geobox: GeoBox
    region: Window
    legend: Legend
    task: Task
    georeferenced: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[int, int] = field(default_factory=dict)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _holder: Any = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.region.shape

    @property
    def _group(self) -> zarr.Group:
        return open_map(self.url, self.storage_options)

    @property
    def names(self) -> tuple[str, ...]:
        """Arrays that every such map holds."""
        return tuple(name for name in MAP_DTYPES if name in self._group)

    @property
    def layers(self) -> tuple[str, ...]:
        """Further layers that were asked for: uint8 levels of 254, 255 = none."""
        return tuple(sorted(set(self._group) - set(MAP_DTYPES)))

    @property
    def chunk_rows(self) -> int:
        """Rows of the chunks that it is kept in; reading less of one costs as much."""
        array: Any = self._group["category_id"]
        return int(array.chunks[0])

    def read(
        self, window: Window | None = None, names: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Arrays of a window of the map (row, col), by name: without ``layers`` where no
        ``names`` are given; the whole map by default.
        """
        window = window or Window(0, 0, *self.shape)
        if window not in Window(0, 0, *self.shape):
            raise InputError(f"{window} is not inside the map of {self.shape} pixels")
        group = self._group
        stored = Window(
            window.row_off + self.region.row_off,
            window.col_off + self.region.col_off,
            window.height,
            window.width,
        )
        return {name: _read(group[name], stored) for name in names or self.names}

    @property
    def category_id(self) -> NDArray[np.uint8]:
        """(row, col) of the whole map, in memory."""
        return self.read(names=["category_id"])["category_id"]

    @property
    def score(self) -> NDArray[np.uint8]:
        """(row, col) of the whole map, in memory."""
        return self.read(names=["score"])["score"]

    @property
    def instance_id(self) -> NDArray[np.uint32]:
        """(row, col) of the whole map, in memory; zeros where the model gives no things."""
        if "instance_id" not in self.names:
            return np.zeros(self.shape, np.uint32)
        return self.read(names=["instance_id"])["instance_id"]

    def to_xarray(self) -> xr.Dataset:
        """A Dataset with coordinates and a ``spatial_ref`` that rioxarray and odc read."""
        import xarray as xr
        from odc.geo.xr import xr_coords

        coords = xr_coords(self.geobox)
        dims = self.geobox.dimensions if self.geobox.crs is not None else ("y", "x")
        variables = {
            name: (dims, array, {"_FillValue": MAP_FILL[name], "grid_mapping": "spatial_ref"})
            for name, array in self.read().items()
        }
        attrs = {"legend": json.dumps(self.legend.to_dict()), "task": self.task}
        return xr.Dataset(variables, coords, attrs)

    def header(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON values."""
        return {
            "geobox": _geobox_to_dict(self.geobox),
            "region": asdict(self.region),
            "legend": self.legend.to_dict(),
            "task": self.task,
            "georeferenced": self.georeferenced,
            "provenance": dict(self.provenance),
            "counts": {str(key): count for key, count in self.counts.items()},
        }

    def save_header(self) -> None:
        """Write the header beside the pixels, so that ``open`` finds it."""
        group = open_map(self.url, self.storage_options, read_only=False)
        group.attrs.put({"geoseg": self.header()})

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> SegmentMap:
        """A map that was kept; raises InputError where there is none."""
        group = open_map(str(url), storage_options)
        header: Any = group.attrs.asdict().get("geoseg")
        if not header or "geobox" not in header:
            raise InputError(f"{url}: not a finished geoseg map: give a .zarr that geoseg wrote")
        return cls(
            url=str(url),
            geobox=_geobox_from_dict(header["geobox"]),
            region=Window(**header["region"]),
            legend=Legend.from_dict(header["legend"]),
            task=header["task"],
            georeferenced=header["georeferenced"],
            provenance=header["provenance"],
            counts={int(key): count for key, count in header["counts"].items()},
            storage_options=storage_options or {},
        )

    @classmethod
    def from_arrays(
        cls,
        category_id: NDArray[np.uint8],
        geobox: GeoBox,
        legend: Legend,
        *,
        score: NDArray[np.uint8] | None = None,
        instance_id: NDArray[Any] | None = None,
        url: str | None = None,
    ) -> SegmentMap:
        """A map from arrays (row, col) in memory, kept at ``url`` or in a temporary folder."""
        import tempfile

        holder = None if url else tempfile.TemporaryDirectory(prefix="geoseg-")
        url = url or f"{holder.name}/map.zarr"  # type: ignore[union-attr]
        arrays: dict[str, NDArray[Any]] = {"category_id": category_id}
        arrays["score"] = np.full(category_id.shape, 255, np.uint8) if score is None else score
        if instance_id is not None:
            arrays["instance_id"] = instance_id.astype(np.uint32)
        rows, cols = category_id.shape
        layout = MapLayout(shape=(rows, cols), block=1024, chunk=512, names=tuple(arrays))
        create_map(url, layout)
        group = open_map(url, read_only=False)
        for name, array in arrays.items():
            group[name][:] = array
        values, counts = np.unique(category_id, return_counts=True)
        result = cls(
            url=url,
            geobox=geobox,
            region=Window(0, 0, rows, cols),
            legend=legend,
            task="semantic" if instance_id is None else "panoptic",
            counts=dict(zip(values.tolist(), counts.tolist(), strict=True)),
            _holder=holder,
        )
        result.save_header()
        return result

    @property
    def valid_pixels(self) -> int:
        """Pixels that have a category."""
        return sum(count for key, count in self.counts.items() if key != NODATA_CATEGORY)

    def _repr_html_(self) -> str:
        from html import escape

        from geoseg.engine.thumbnail import picture_of

        total = max(self.valid_pixels, 1)
        rows = "".join(
            f"<tr><td style='background:{c.colour}'>&nbsp;&nbsp;</td><td>{escape(c.name)}</td>"
            f"<td>{100 * self.counts.get(c.id, 0) / total:.1f} %</td></tr>"
            for c in self.legend
            if self.counts.get(c.id)
        )
        high, wide = self.shape
        text = f"<p>{self.task} map, {high} x {wide} px</p>"
        return f"{text}{picture_of(self)}<table>{rows}</table>"
