"""A STAC item as one scene: its image assets, named by common name, on the finest grid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoseg.errors import SceneError
from geoseg.scene.formats import Access
from geoseg.scene.geotiff import open_file
from geoseg.scene.reader import Band, Scene
from geoseg.scene.regrid import on_grid
from geoseg.scene.stack import stack

if TYPE_CHECKING:
    from pystac import Asset, Item

__all__ = ["open_item"]

_QUALITY = {"scl": "SCL", "qa_pixel": "QA_PIXEL"}
_NOT_IMAGES = {"thumbnail", "overview", "metadata"}
_MEDIA = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/jpeg", "image/png")
_SUFFIXES = (".tif", ".tiff", ".jp2", ".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class _Described:
    """An asset and what the item says of its bands."""

    key: str
    href: str
    bands: tuple[Mapping[str, Any], ...]

    def names(self) -> list[tuple[str, str]]:
        """(common name or "", own name) of each band."""
        return [
            (
                str(band.get("common_name") or band.get("eo:common_name") or ""),
                str(band.get("name") or self.key),
            )
            for band in self.bands
        ]


def open_item(
    path: Path, *, nodata: float | Literal["none"] | None = None, access: Access
) -> Scene:
    """All image assets of an item (JSON file) as one scene; links are relative to the file.

    A band is called by its common name where only one has it (red), else by its own (B05).
    An asset that only repeats bands of earlier ones (a picture in true colour) is left out; so
    are thumbnails. SCL and QA_PIXEL are the scene's ``quality``. Scale, offset and nodata are
    the item's. Raises SceneError where the file is no item, or no asset can be opened.
    """
    item = _parse(path)
    assets = _images(item)
    quality = next((a for a in assets if a.key.lower() in _QUALITY), None)
    chosen = _without_repeats([a for a in assets if a.key.lower() not in _QUALITY])
    if not chosen:
        raise SceneError(f"{path}: an item without image assets: it has {', '.join(item.assets)}")
    shared = Counter(common for asset in chosen for common, _ in asset.names())
    scenes = [_open(asset, nodata, access, shared) for asset in chosen]
    scene = stack(scenes, grid="finest")
    if quality is not None:
        classes = open_file(quality.href, access=access)
        classes = replace(classes, bands=(Band(_QUALITY[quality.key.lower()]),))
        classes = on_grid(classes, scene.geobox, method="nearest")
        return replace(_named(scene, item, path), quality=classes)
    return _named(scene, item, path)


def _named(scene: Scene, item: Item, path: Path) -> Scene:
    texts = {
        key: str(value)
        for key, value in item.properties.items()
        if isinstance(value, (str, int, float, bool))
    }
    return replace(scene, name=item.id, tags={**scene.tags, **texts, "file": path.name})


def _parse(path: Path) -> Item:
    from pystac import Item, STACError, STACTypeError

    try:
        data = json.loads(path.read_text())
        item: Item = Item.from_dict(data, href=str(path.absolute()))
        # pystac raises whatever the JSON runs into
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, STACError, STACTypeError,
    ) as error:  # fmt: skip
        raise SceneError(f"{path}: not a STAC item: {error}: give an image or an item") from error
    return item


def _images(item: Item) -> list[_Described]:
    out = []
    for key, asset in item.assets.items():
        href = asset.get_absolute_href()
        if href and _is_image(asset) and not _NOT_IMAGES & set(asset.roles or ()):
            out.append(_Described(key, href.removeprefix("file://"), _bands(asset)))
    return out


def _is_image(asset: Asset) -> bool:
    if asset.media_type:
        return bool(asset.media_type.lower().startswith(_MEDIA))
    return bool(asset.href.lower().endswith(_SUFFIXES))


def _bands(asset: Asset) -> tuple[Mapping[str, Any], ...]:
    """What is said per band: STAC 1.1's ``bands``, or the extensions of 1.0 side by side."""
    said = asset.to_dict()
    lists: list[Sequence[Mapping[str, Any]]] = [
        said.get(key, ()) for key in ("bands", "eo:bands", "raster:bands")
    ]
    count = max(1, *(len(entries) for entries in lists))
    merged: list[dict[str, Any]] = [{} for _ in range(count)]
    for entries in lists:
        for band, entry in zip(merged, entries, strict=False):
            band.update(entry)
    return tuple(merged)


def _without_repeats(assets: Sequence[_Described]) -> list[_Described]:
    """In order of fewest bands first, each that brings a band which is not there yet."""
    seen: set[str] = set()
    kept = []
    for asset in sorted(assets, key=lambda asset: len(asset.bands)):
        names = {own if own != asset.key else common or own for common, own in asset.names()}
        if not names <= seen:
            kept.append(asset)
        seen |= names
    return sorted(kept, key=assets.index)


def _open(
    asset: _Described,
    nodata: float | Literal["none"] | None,
    access: Access,
    shared: Mapping[str, int],
) -> Scene:
    values = {_first(band, "nodata") for band in asset.bands} - {None}
    if nodata is None and len(values) == 1:
        nodata = float(values.pop())
    scene = open_file(asset.href, nodata=nodata, access=access)
    described = asset.bands
    if len(described) != len(scene.bands):
        if len(described) > 1:
            raise SceneError(
                f"asset {asset.key}: the item names {len(described)} bands, "
                f"{asset.href} has {len(scene.bands)}"
            )
        return scene
    bands = []
    for band, said, (common, own) in zip(scene.bands, described, asset.names(), strict=True):
        bands.append(
            Band(
                name=common if common and shared[common] == 1 else own,
                wavelength_um=_first(said, "center_wavelength", "eo:center_wavelength"),
                scale=float(_first(said, "scale", "raster:scale") or band.scale),
                offset=float(_first(said, "offset", "raster:offset") or band.offset),
            )
        )
    return replace(scene, bands=tuple(bands))


def _first(said: Mapping[str, Any], *keys: str) -> Any:
    return next((said[key] for key in keys if said.get(key) is not None), None)
