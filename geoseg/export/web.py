"""Maps as one web page that needs nothing else: no server, no network.

The page holds the tiles of the scene, the classes and the polygons as text; scripts and
styles are its own and named by their hash in its content security policy. Names and
attributes reach the page as JSON and are shown as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

from geoseg.errors import InputError
from geoseg.export.columns import aliases_in
from geoseg.export.mapcells import MapCells
from geoseg.export.pagegrid import TILE, Grid, grid_of, open_scene
from geoseg.export.pieces import Pieces
from geoseg.export.scenetiles import SceneTiles
from geoseg.export.target import written_beside
from geoseg.legend import Legend

__all__ = ["PLOTS", "Page", "PageMap", "add_plot", "head_of", "pieces_of", "write_page"]

_SCENE_BYTES = 80 << 20
"""Room for the scene's tiles; a finer level that would not fit is left out."""

PLOTS = {".png": "image/png", ".svg": "image/svg+xml"}
"""Pictures that a page can hold."""

_SCRIPTS = ("map.js", "draw.js", "panel.js", "hands.js")
_PLOT_PLACE = "<!-- plot -->\n"


@dataclass(frozen=True, kw_only=True)
class PageMap:
    """One map of a page.

    Attributes:
        polygons: GeoDataFrame in any CRS, brought to that of the page; columns of any names.
        legend: names and colours.
        name: tells it from the page's other maps.
        report: facts of the run, shown as a list.

    """

    polygons: Any
    legend: Legend
    name: str = "Map"
    report: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame(self) -> Any:
        """The polygons, without areas and perimeters where they are unknown: in pixels."""
        frame = self.polygons
        measures = [name for name in ("area_m2", "perimeter_m") if name in frame]
        unknown = [name for name in measures if not frame[name].notna().any()]
        return frame.drop(columns=unknown) if len(frame) else frame


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows.

    Attributes:
        maps: the first lies on top.
        title, note: note is the line below the title: sources, licences.
        scene: the image under the maps; None: none.
        bands: shown as red, green and blue, from 1.

    """

    maps: Sequence[PageMap]
    title: str
    note: str = ""
    scene: Path | None = None
    bands: tuple[int, int, int] = (1, 2, 3)


def pieces_of(page: Page) -> Pieces:
    """The pieces of the page, on the scene's grid; polygons are brought to its CRS."""
    for one in page.maps:
        _check(one, page)
    frames = [one.frame for one in page.maps]
    names = [one.name for one in page.maps]
    grid = grid_of(page.scene, list(zip(names, frames, strict=True)))
    cells = []
    for one, given in zip(page.maps, frames, strict=True):
        frame = given
        if grid.crs_wkt and frame.crs is not None:
            frame = frame.to_crs(grid.crs_wkt)
        if page.scene is not None and len(frame) and not _meet(grid, frame):
            which = f"the map {one.name!r}" if len(page.maps) > 1 else "the map"
            raise InputError(
                f"{page.scene}: {which} lies elsewhere (its box, in the scene's CRS, is "
                f"{', '.join(f'{v:.8g}' for v in frame.total_bounds)}): "
                "give the scene it was made from"
            )
        cells.append(MapCells(frame, grid))
    if page.scene is None:
        return Pieces(grid, None, cells)
    with open_scene(page.scene) as file:
        bands = tuple(min(band, file.count) for band in page.bands)
    return Pieces(grid, SceneTiles(page.scene, grid, bands), cells)


def _check(one: PageMap, page: Page) -> None:
    """Raises InputError for a map that the page can't show with the others."""
    kinds = set(one.polygons.geom_type.dropna())
    if kinds - {"Polygon", "MultiPolygon"}:
        raise InputError(
            f"map {one.name!r}: holds {', '.join(sorted(kinds))}: the page shows polygons"
        )
    if any((one.polygons.crs is None) != (other.polygons.crs is None) for other in page.maps):
        known = [other.name for other in page.maps if other.polygons.crs is not None]
        without = [other.name for other in page.maps if other.polygons.crs is None]
        raise InputError(
            f"map {without[0]!r} has no CRS, {known[0]!r} has one: they can't share a page"
        )


def _meet(grid: Grid, frame: Any) -> bool:
    """Whether the box of the polygons touches the grid."""
    box = frame.total_bounds
    if not all(map(math.isfinite, box)):
        return False
    corners = [~grid.transform @ (x, y) for x in box[::2] for y in box[1::2]]
    cols, rows = zip(*corners, strict=True)
    height, width = grid.shape
    return bool(min(cols) < width and max(cols) > 0 and min(rows) < height and max(rows) > 0)


def write_page(page: Page, path: str | os.PathLike[str], *, overwrite: bool = False) -> int:
    """Write the page; returns its bytes. Raises InputError and OutputError."""
    with written_beside(path, overwrite, kinds=("page",)) as part:
        pieces = pieces_of(page)
        finest = None if pieces.scene is None else _finest_level(pieces.grid, pieces.scene)
        before, after = head_of(page, pieces.grid, finest, served=False)
        with open(part, "w", encoding="utf-8") as out:
            out.write(before)
            for key in pieces.keys(finest):
                _embed(out, key, pieces.get)
            out.write(after)
        return part.stat().st_size


def add_plot(
    path: str | os.PathLike[str], plot: str | os.PathLike[str], words: str = "How it was decided"
) -> None:
    """Put a picture into a page that was written, above its run report.

    Raises InputError for a picture a page can't hold, or a file that is no page of geoseg's.
    """
    kind = PLOTS.get(Path(plot).suffix.lower())
    if kind is None:
        raise InputError(f"{plot}: a page holds {' or '.join(PLOTS)}")
    image = base64.b64encode(Path(plot).read_bytes()).decode()
    title = html.escape(words, quote=True)
    source = f"data:{kind};base64,{image}"
    figure = (
        f"<h2>{title}</h2>\n"
        f'<figure tabindex="0" title="Click to enlarge"><img alt="{title}" src="{source}">'
        "</figure>\n"
    )
    found = False
    with written_beside(path, True, kinds=("page",)) as part:
        with open(path, encoding="utf-8") as page, open(part, "w", encoding="utf-8") as out:
            for line in page:  # pages are large: the map's pieces follow line by line
                here = line == _PLOT_PLACE and not found
                found = found or here
                out.write(figure if here else line)
        if not found:
            raise InputError(f"{path}: is no page of geoseg's, or has its plot already")


def _embed(out: TextIO, key: str, get: Callable[[str], bytes | None]) -> None:
    piece = get(key)
    if piece is not None:
        text = base64.b64encode(piece).decode()
        out.write(f'<script type="application/octet-stream" id="{key}">{text}</script>\n')


def _finest_level(grid: Grid, scene: SceneTiles) -> int:
    """The finest level whose tiles, and all coarser ones, fit; judged by sixteen tiles."""
    for level in range(grid.levels):
        tiles = list(grid.tiles(level))
        sample = tiles[:: max(1, len(tiles) // 16)]
        sizes = [len(scene.tile(level, *tile)) for tile in sample]
        if sum(sizes) / len(sizes) * len(tiles) * 4 / 3 < _SCENE_BYTES:
            return level
    return grid.levels


def head_of(page: Page, grid: Grid, finest: int | None, *, served: bool) -> tuple[str, str]:
    """The page's text before and after its pieces; ``finest`` level of the scene, if any."""
    folder = resources.files("geoseg.export") / "web"
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "".join((folder / f).read_text(encoding="utf-8") for f in _SCRIPTS)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        f"img-src data:; connect-src {chr(39)}{'self' if served else 'none'}{chr(39)}; "
        "base-uri 'none'; form-action 'none'"
    )
    text = (folder / "page.html").read_text(encoding="utf-8")
    text = text.replace("@@POLICY@@", policy).replace("@@STYLE@@", style)
    before, after = text.replace("@@SCRIPT@@", script).split("@@DATA@@")
    facts = json.dumps(_facts(page, grid, finest, served), ensure_ascii=False)
    # no text can end the element it stands in
    facts = facts.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'{before}<script type="application/json" id="facts">{facts}</script>\n', after


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _facts(page: Page, grid: Grid, finest: int | None, served: bool) -> dict[str, Any]:
    measured = any("area_m2" in one.frame for one in page.maps)
    return {
        "title": page.title,
        "note": page.note,
        "rows": grid.shape[0],
        "cols": grid.shape[1],
        "tile": TILE,
        "levels": grid.levels,
        "metres": _metres(grid) if measured else 0,
        "scene": None if finest is None else {"finest": finest},
        "served": served,
        "maps": [_map_facts(one) for one in page.maps],
    }


def _map_facts(one: PageMap) -> dict[str, Any]:
    frame = one.frame
    amounts: dict[int, float] = {}
    if "category_id" in frame:
        measure = next((c for c in ("area_m2", "pixels") if c in frame), None)
        groups = frame.groupby("category_id")
        sums = groups[measure].sum() if measure else groups.size()
        amounts = {int(number): float(value) for number, value in sums.items()}
    return {
        "name": one.name,
        "areas": "area_m2" in frame,
        "legend": [
            {"id": c.id, "name": c.name, "colour": c.colour, "area": amounts.get(c.id, 0.0)}
            for c in sorted(one.legend, key=lambda c: -amounts.get(c.id, 0.0))
            if amounts.get(c.id)
        ],
        "words": aliases_in(map(str, frame.columns)),
        "report": dict(one.report),
    }


def _metres(grid: Grid) -> float:
    """Metres per pixel at the centre; 0 without a CRS. A local CRS is taken at its unit."""
    from pyproj import CRS, Geod, Transformer

    if grid.crs_wkt is None:
        return 0.0
    crs = CRS.from_wkt(grid.crs_wkt)
    if not (crs.is_geographic or crs.is_projected):
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        return math.hypot(grid.transform.a, grid.transform.d) * unit
    to_degrees = Transformer.from_crs(crs, 4326, always_xy=True)
    row, col = grid.shape[0] / 2, grid.shape[1] / 2
    ends = [to_degrees.transform(*(grid.transform @ (col + step, row))) for step in (-0.5, 0.5)]
    return float(Geod(ellps="WGS84").inv(*ends[0], *ends[1])[2])
