"""Scene: what geoseg reads. Reader: how a window of it is had.

A reader only ever sees windows inside its grid. What lies beyond the edge is reflected
here, in one place, so that every source behaves the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.grid import Window

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["Band", "Decimating", "Reader", "Scene", "reflect_indices"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Band:
    """One band: ``name`` as the source or the person gives it, centre wavelength in µm.

    Readers give raw digital numbers; ``dn * scale + offset`` is what the source says they
    mean. Whether a model wants the one or the other is in its card.
    """

    name: str
    wavelength_um: float | None = None
    scale: float = 1.0
    offset: float = 0.0


@runtime_checkable
class Reader(Protocol):
    """Reads windows of one source. Picklable: workers open the source themselves."""

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col) of a window inside the grid.

        ``bands`` are indices from 0. Valid is True where a pixel may be used: nodata
        values, mask bands, alpha and NaN are all False here.
        Raises BlockError when the window can't be read.
        """
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """What tells this source from a changed one: paths, sizes, times (JSON values)."""
        ...


@runtime_checkable
class Decimating(Protocol):
    """A reader that can give the whole source small, from its overviews."""

    def read_decimated(
        self, shape: tuple[int, int], bands: Sequence[int]
    ) -> tuple[NDArray[Any], BoolArray]:
        """The whole source at ``shape`` (rows, cols), nearest pixel."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A reader that knows which pixels masks left out."""

    def taken(self, window: Window, bands: Sequence[int]) -> dict[str, BoolArray]:
        """By mask and reason, (row, col): True where a pixel with data was left out for it.

        No pixel has two reasons. Raises BlockError.
        """
        ...


def taken_by_masks(reader: Reader, window: Window, bands: Sequence[int]) -> dict[str, BoolArray]:
    """See ``Explaining``; empty where nothing masks."""
    return reader.taken(window, bands) if isinstance(reader, Explaining) else {}


def reflect_indices(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Indices start..stop-1 of an axis reflected at both ends without repeating the edge.

    The same as ``numpy.pad(mode="reflect")``, for any distance beyond the edge; an axis of
    one pixel repeats it.

    >>> reflect_indices(-2, 5, 3).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    """
    if size == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (size - 1)
    phase = np.arange(start, stop) % period
    return np.where(phase < size, phase, period - phase).astype(np.intp)


def _taken(
    array: NDArray[Any], row_index: NDArray[np.intp], col_index: NDArray[np.intp]
) -> NDArray[Any]:
    """``array[..., row_index, col_index]``, one axis after the other: ten times as fast, and other
    threads go on meanwhile.
    """
    return array.take(row_index, axis=-2).take(col_index, axis=-1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A georeferenced image of any size, read in windows.

    Attributes:
        name: what a person calls it: mostly the file's name.
        geobox: crs (may be None), affine and shape (rows, cols), odc-geo's.
        bands: one per band, in the order of the source.
        dtype: numpy name of the pixels' type.
        nodata: the declared value, None where there is none.
        reader: gives the pixels.
        georeferenced: False for plain images: coordinates are pixels then.
        tags: metadata of the source that models may look at (strings).
        quality: bands on the same grid that say what pixels are (SCL, QA_PIXEL), where
            they come apart from the image.

    """

    name: str
    geobox: GeoBox
    bands: tuple[Band, ...]
    dtype: str
    nodata: float | None
    reader: Reader = field(repr=False)
    georeferenced: bool = True
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    quality: Scene | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        rows, cols = self.geobox.shape
        return int(rows), int(cols)

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, *self.shape)

    @property
    def gsd_m(self) -> float | None:
        """Ground sampling distance in metres at the scene's centre; None without a CRS."""
        from geoseg.scene.geodesy import gsd_m

        return gsd_m(self.geobox)

    def pixel_area_m2(self, window: Window) -> float | None:
        """Area on the ground of the pixel at a window's centre; None without a CRS."""
        from geoseg.scene.geodesy import pixel_size_m

        size = pixel_size_m(self.geobox[window.slices])
        return None if size is None else size[0] * size[1]

    def band_indices(self, names: Sequence[str]) -> tuple[int, ...]:
        """Indices of bands given by name or by number from 1; raises SceneError."""
        by_name = {band.name.lower(): i for i, band in enumerate(self.bands)}
        indices = []
        for name in names:
            if name.lower() in by_name:
                indices.append(by_name[name.lower()])
            elif name.isdigit() and 1 <= int(name) <= len(self.bands):
                indices.append(int(name) - 1)
            else:
                have = ", ".join(band.name for band in self.bands)
                raise SceneError(
                    f"{self.name}: no band {name!r}: it has {len(self.bands)} ({have}); "
                    f"give names or numbers from 1"
                )
        return tuple(indices)

    def read(
        self, window: Window | None = None, bands: Sequence[int] | None = None
    ) -> tuple[NDArray[Any], BoolArray]:
        """Pixels (band, row, col) and valid (row, col) of any window.

        Beyond the edge, pixels and valid are reflected. ``bands`` are indices from 0, all
        by default. Raises BlockError when the source can't be read there.
        """
        window = window or self.window
        bands = tuple(range(len(self.bands))) if bands is None else tuple(bands)
        rows, cols = self.shape
        inside = window & self.window
        if inside == window:
            return self.reader.read(window, bands)
        row_index = reflect_indices(window.row_off, window.row_end, rows)
        col_index = reflect_indices(window.col_off, window.col_end, cols)
        # the reflection of a far window can need pixels that the window itself doesn't hold
        source = Window(
            int(row_index.min()),
            int(col_index.min()),
            int(np.ptp(row_index)) + 1,
            int(np.ptp(col_index)) + 1,
        )
        pixels, valid = self.reader.read(source, bands)
        row_index -= source.row_off
        col_index -= source.col_off
        return _taken(pixels, row_index, col_index), _taken(valid, row_index, col_index)

    def preview(
        self, max_side: int = 1024, bands: Sequence[int] | None = None
    ) -> tuple[NDArray[Any], BoolArray]:
        """The whole scene small, for pictures: pixels (band, row, col) and valid (row, col).

        Nearest pixels, from overviews where the source has them, with no side longer than
        ``max_side``. Raises BlockError when the source can't be read.
        """
        bands = tuple(range(len(self.bands))) if bands is None else tuple(bands)
        rows, cols = self.shape
        step = max(1, -(-max(rows, cols) // max_side))
        shape = -(-rows // step), -(-cols // step)
        if step > 1 and isinstance(self.reader, Decimating):
            return self.reader.read_decimated(shape, bands)
        strips = []
        height = step * max(1, 256 // step)
        for start in range(0, rows, height):
            pixels, valid = self.read(Window(start, 0, min(height, rows - start), cols), bands)
            strips.append((pixels[:, ::step, ::step], valid[::step, ::step]))
        return (
            np.concatenate([pixels for pixels, _ in strips], axis=1),
            np.concatenate([valid for _, valid in strips], axis=0),
        )

    def with_band_names(self, names: Sequence[str]) -> Scene:
        """The same scene with other band names, one per band; raises SceneError."""
        if len(names) != len(self.bands):
            raise SceneError(
                f"{self.name}: {len(names)} band names for {len(self.bands)} bands: "
                "give one per band"
            )
        bands = tuple(replace(b, name=n) for b, n in zip(self.bands, names, strict=True))
        return replace(self, bands=bands)

    def select(self, bands: Sequence[str]) -> Scene:
        """The scene with these bands only, in this order; raises SceneError.

        Each is a band's name or its number from 1; ``"red=3"`` takes band 3 and calls it red.
        What is valid does not change with the selection.
        """
        parts = [text.rpartition("=") for text in bands]
        indices = self.band_indices([wanted for _, _, wanted in parts])
        chosen = tuple(
            replace(self.bands[i], name=name or self.bands[i].name)
            for i, (name, _, _) in zip(indices, parts, strict=True)
        )
        if not chosen or len({band.name for band in chosen}) != len(chosen):
            raise SceneError(f"{self.name}: bands {','.join(bands)}: name at least one, each once")
        return replace(self, bands=chosen, reader=_Selection(self.reader, indices))

    def with_crs(self, crs: str) -> Scene:
        """The scene with a CRS where it has none of its own; raises SceneError."""
        import pyproj
        from odc.geo.crs import CRS
        from odc.geo.geobox import GeoBox

        try:
            assumed = CRS(crs)
        except (ValueError, pyproj.exceptions.CRSError) as error:
            raise SceneError(f"{crs!r} is no CRS: give an EPSG code such as EPSG:32632") from error
        if not self.georeferenced:
            raise SceneError(f"{self.name}: no georeference: a CRS alone can't place its pixels")
        if self.geobox.crs not in (None, assumed):
            raise SceneError(
                f"{self.name}: it has a CRS, {self.geobox.crs}, and can't be taken as {crs}"
            )
        return replace(self, geobox=GeoBox(self.shape, self.geobox.affine, assumed))

    def _repr_html_(self) -> str:
        from geoseg.scene.summary import to_html

        return to_html(self)


@dataclass(frozen=True, slots=True)
class _Selection:
    """Some bands of another reader, in any order."""

    reader: Reader
    indices: tuple[int, ...]

    def read(self, window: Window, bands: Sequence[int]) -> tuple[NDArray[Any], BoolArray]:
        return self.reader.read(window, [self.indices[band] for band in bands])

    def fingerprint(self) -> Mapping[str, Any]:
        return self.reader.fingerprint()

    def taken(self, window: Window, bands: Sequence[int]) -> dict[str, BoolArray]:
        return taken_by_masks(self.reader, window, [self.indices[band] for band in bands])
