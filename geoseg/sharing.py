"""A SegmentMap for others to look at: a QGIS project, a web page, a STAC item.

Each names or holds other files; those that were not asked for are written beside it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import InputError
from geoseg.export.columns import closed
from geoseg.layers import PROBS, is_layer_name, layer_in_name
from geoseg.modelitem import MODEL_ITEM, write_model_item
from geoseg.scenefiles import colour_sources, files_of, one_file, taken_of

if TYPE_CHECKING:
    from geoseg.engine.report import RunReport
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.outputs import PolygonOptions
    from geoseg.scene.reader import Scene

__all__ = [
    "ORDER",
    "SCENE_BESIDE",
    "beside",
    "companions",
    "credit_line",
    "licence_line",
    "scene_file",
    "share",
]

ORDER = {"project": 1, "page": 1, "item": 2}
"""Kinds of output that are made of others, and when they are written."""

_CONFIDENCE, SCENE_BESIDE = "_confidence.tif", "_scene.vrt"
_SHOWN = (".gpkg", ".fgb")
"""Polygons that a project shows, the best first: in the scene's CRS, with whole names of columns,
read by every QGIS. Tiles hold them in pieces, and few builds of QGIS read Parquet.
"""


def share(
    result: SegmentMap,
    scene: Scene,
    path: str,
    outputs: Sequence[str],
    options: PolygonOptions,
    report: RunReport,
) -> None:
    """Write the project, page or item at ``path``, of files that are there already.

    ``outputs`` are all files of the run, companions among them.
    """
    from geoseg.export.target import kind_of

    kind = kind_of(path)
    if kind == "project":
        _project(result, scene, path, outputs, report)
    elif kind == "page":
        _page(result, scene, path, options, report)
    elif kind == "item":
        _item(result, scene, path, outputs)
    else:
        raise InputError(f"{path}: is a {kind}, not something to share")


def companions(outputs: Sequence[str]) -> list[str]:
    """What a project among the outputs needs beside it and was not asked for by name."""
    from geoseg.export.target import kind_of

    needed: list[str] = []
    for path in outputs:
        if kind_of(path) != "project":
            continue
        stem = str(Path(path).with_suffix(""))
        if not polygons_of([*outputs, *needed]):
            needed.append(f"{stem}.gpkg")
        rasters = [other for other in [*outputs, *needed] if kind_of(other) == "raster"]
        if all(is_layer_name(other) for other in rasters):
            needed.append(f"{stem}.tif")
    return needed


def polygons_of(outputs: Sequence[str]) -> list[str]:
    """Outputs that a project shows polygons of, the best first."""
    endings = [Path(path).suffix.lower() for path in outputs]
    return [path for wanted in _SHOWN for path, ending in zip(outputs, endings) if ending == wanted]


def beside(outputs: Sequence[str], scene: Scene) -> list[str]:
    """What a project or an item among the outputs brings along, whatever else was asked for."""
    from geoseg.export.target import kind_of

    found = []
    for path in outputs:
        kind = kind_of(path)
        tails = {"project": [_CONFIDENCE], "item": [MODEL_ITEM]}.get(kind, [])
        sources = colour_sources(scene) if kind == "project" else None
        if sources and one_file(sources) is None:
            tails = [*tails, SCENE_BESIDE]
        found += [str(Path(path).with_name(Path(path).stem + tail)) for tail in tails]
    return found


def _project(
    result: SegmentMap, scene: Scene, path: str, outputs: Sequence[str], report: RunReport
) -> None:
    from geoseg.export.project import Project, write_project
    from geoseg.export.projectlayer import ProjectLayer
    from geoseg.export.raster import RasterOptions, write_raster
    from geoseg.export.target import kind_of
    from geoseg.outputs import provenance_of

    score = Path(path).with_name(Path(path).stem + _CONFIDENCE)
    write_raster(
        lambda window: result.read(window)["score"],
        score,
        geobox=result.geobox,
        provenance=provenance_of(result),
        overwrite=True,
        options=RasterOptions(kind="score"),
    )
    rasters = {p: layer_in_name(p, result) for p in outputs if kind_of(p) == "raster"}
    classes = next(Path(p) for p, layer in rasters.items() if layer is None)
    layers = [
        ProjectLayer(path=Path(polygons_of(outputs)[0]), role="polygons", name="Polygons"),
        ProjectLayer(path=classes, role="category", name="Classes"),
        ProjectLayer(path=score, role="score", name="Confidence"),
    ]
    for name, layer in rasters.items():
        if layer not in (None, PROBS):  # of probabilities there are many bands
            layers.append(ProjectLayer(path=Path(name), role="score", name=str(layer).capitalize()))
    shown = scene_file(scene, Path(path).with_name(Path(path).stem + SCENE_BESIDE))
    if shown is not None:
        source, bands = shown
        layers.append(ProjectLayer(path=source, role="scene", name=scene.name, bands=bands))
    facts = result.provenance
    project = Project(
        layers=layers,
        legend=result.legend,
        title=f"{scene.name}: {facts.get('model', '')}",
        note=credit_line(facts),
        hectares={key: area / 1e4 for key, area in report.area_m2.items() if key != 255},
    )
    write_project(project, path, overwrite=True)


def scene_file(
    scene: Scene, beside: Path, bands: tuple[int, int, int] | None = None
) -> tuple[Path, tuple[int, int, int]] | None:
    """The scene as one file with its red, green and blue; a virtual one where there are several.

    ``bands`` are shown so, by default those of these names. None where the scene lies in no
    files of this machine.
    """
    from geoseg.export.target import written_beside
    from geoseg.export.vrt import write_vrt

    sources = colour_sources(scene, bands)
    if sources is None:
        return None
    single = one_file(sources)
    if single is not None:
        return single
    with written_beside(beside, True, suffixes=(".vrt",)) as part:
        if not write_vrt(sources, part, beside.parent):
            return None
    return beside, (1, 2, 3)


def licence_line(facts: Mapping[str, str]) -> str:
    """The licence of the model that made a map; empty for methods, which have no weights."""
    licence = facts.get("model_licence", "")
    return "" if licence == "method" else licence


def credit_line(facts: Mapping[str, str]) -> str:
    """What made a map, for the line below it."""
    licence = licence_line(facts)
    model = closed(facts.get("model", ""))
    return f"Map: geoseg, {model}" + (f" ({licence})" if licence else "") if model else ""


def _page(
    result: SegmentMap, scene: Scene, path: str, options: PolygonOptions, report: RunReport
) -> None:
    import pyarrow as pa

    from geoseg.export.web import Page, PageMap, write_page
    from geoseg.outputs import polygon_batches, provenance_of
    from geoseg.polygons import to_frame

    table = pa.Table.from_batches(polygon_batches(result, options))
    crs = result.geobox.crs
    facts = provenance_of(result)
    shown = PageMap(
        polygons=to_frame(table, None if crs is None else crs.to_wkt()),
        legend=result.legend,
        report=facts | _told(report),
    )
    with tempfile.TemporaryDirectory() as folder:  # for the scene of several files
        source = scene_file(scene, Path(folder) / "scene.vrt")
        page = Page(
            maps=[shown],
            title=f"{scene.name}: {facts.get('model', '')}",
            note=credit_line(facts),
            scene=None if source is None else source[0],
            bands=(1, 2, 3) if source is None else source[1],
        )
        write_page(page, path, overwrite=True)


def _told(report: RunReport) -> dict[str, str]:
    """The run in words, for the page: what a person would ask of it."""
    told = {"pixels": f"{report.pixels:,}"}
    if report.tiles:
        told["tiles"] = f"{report.tiles:,} in {report.blocks:,} blocks"
    if report.peak_bytes:
        peak, projected = max(report.peak_bytes.values()), report.projected_bytes
        told["memory"] = f"peak {peak / 1e6:,.0f} MB of {projected / 1e6:,.0f} MB projected"
    for reason, count in report.masked.items():
        told[f"left out by {reason}"] = f"{count:,} pixels"
    for stage, seconds in report.stage_seconds.items():
        told[f"seconds to {stage}"] = f"{seconds:.1f}"
    if report.warnings:
        told["warnings"] = " · ".join(report.warnings)
    return told


def _item(result: SegmentMap, scene: Scene, path: str, outputs: Sequence[str]) -> None:
    from geoseg.export.stac import RunItem, write_item
    from geoseg.export.target import kind_of
    from geoseg.outputs import provenance_of

    written = [path for path in outputs if kind_of(path) not in {"item", "map"}]
    brought = [path for path in beside(outputs, scene) if not path.endswith(MODEL_ITEM)]
    item = RunItem(
        id=Path(path).stem,
        files=[Path(name) for name in dict.fromkeys([*written, *brought]) if Path(name).is_file()],
        geobox=result.geobox,
        legend=result.legend,
        taken=taken_of(scene),
        provenance=provenance_of(result),
        scenes=[_relative(file, path) for file in files_of(scene)],
        model=write_model_item(result, path),
    )
    write_item(item, path, overwrite=True)


def _relative(file: Path, item: str) -> str:
    """The file as the item names it: both can be moved together."""
    folder = Path(item).resolve().parent
    return Path(os.path.relpath(file.resolve(), folder)).as_posix()
