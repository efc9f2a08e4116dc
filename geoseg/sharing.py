"""A SegmentMap for others to look at: a QGIS project, a web page, a STAC item.

Each names or holds other files; those that were not asked for are written beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.engine.report import RunReport
    from geoseg.engine.segmentmap import SegmentMap
    from geoseg.outputs import PolygonOptions
    from geoseg.scene.reader import Scene

__all__ = ["ORDER", "beside", "companions", "credit_line", "file_bands", "licence_line", "share"]

ORDER = {"project": 1, "page": 1, "item": 2}
"""Kinds of output that are made of others, and when they are written."""

_CONFIDENCE, _MODEL = "_confidence.tif", "_model.json"
_COLOURS = (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2"))


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
        for kind, name in (("vector", f"{stem}.gpkg"), ("raster", f"{stem}.tif")):
            if not any(kind_of(other) == kind for other in [*outputs, *needed]):
                needed.append(name)
    return needed


def beside(outputs: Sequence[str]) -> list[str]:
    """What a project or an item among the outputs brings along, whatever else was asked for."""
    from geoseg.export.target import kind_of

    tails = {"project": _CONFIDENCE, "item": _MODEL}
    return [
        str(Path(path).with_name(Path(path).stem + tails[kind_of(path)]))
        for path in outputs
        if kind_of(path) in tails
    ]


def scene_file(scene: Scene) -> Path | None:
    """The file that holds the scene, where it is one file of this machine."""
    path = scene.reader.fingerprint().get("path")
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def colour_bands(scene: Scene) -> tuple[int, int, int]:
    """Numbers from 1 of the bands shown as red, green and blue."""
    names = [band.name.lower() for band in scene.bands]
    chosen = next((t for t in _COLOURS if set(t) <= set(names)), None)
    numbers = [names.index(n) + 1 for n in chosen] if chosen else [1, 2, 3]
    red, green, blue = (min(n, len(names)) for n in numbers)
    return red, green, blue


def file_bands(path: Path) -> tuple[int, int, int]:
    """The same of an image of this machine; raises SceneError."""
    from geoseg.scene.opening import open_scene

    return colour_bands(open_scene(path, allow_vrt=path.suffix.lower() == ".vrt"))


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
    vector = next(Path(other) for other in outputs if kind_of(other) == "vector")
    raster = next(Path(other) for other in outputs if kind_of(other) == "raster")
    layers = [
        ProjectLayer(path=vector, role="polygons", name="Polygons"),
        ProjectLayer(path=raster, role="category", name="Classes"),
        ProjectLayer(path=score, role="score", name="Confidence"),
    ]
    source = scene_file(scene)
    if source is not None:
        bands = colour_bands(scene)
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


def licence_line(facts: Mapping[str, str]) -> str:
    """The licence of the model that made a map; empty for methods, which have no weights."""
    licence = facts.get("model_licence", "")
    return "" if licence == "method" else licence


def credit_line(facts: Mapping[str, str]) -> str:
    """What made a map, for the line below it."""
    licence = licence_line(facts)
    model = facts.get("model", "")
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
    seconds = {f"seconds to {name}": f"{value:.1f}" for name, value in report.stage_seconds.items()}
    shown = PageMap(
        polygons=to_frame(table, None if crs is None else crs.to_wkt()),
        legend=result.legend,
        report={**facts, **seconds},
    )
    page = Page(
        maps=[shown],
        title=f"{scene.name}: {facts.get('model', '')}",
        note=licence_line(facts),
        scene=scene_file(scene),
        bands=colour_bands(scene),
    )
    write_page(page, path, overwrite=True)


def _item(result: SegmentMap, scene: Scene, path: str, outputs: Sequence[str]) -> None:
    from geoseg.export.stac import RunItem, write_item
    from geoseg.export.target import kind_of
    from geoseg.outputs import provenance_of

    files = [Path(p) for p in outputs if kind_of(p) not in {"item", "map"} and Path(p).is_file()]
    source = scene_file(scene)
    item = RunItem(
        id=Path(path).stem,
        files=files,
        geobox=result.geobox,
        legend=result.legend,
        provenance=provenance_of(result),
        scene="" if source is None else _relative(source, path),
        model=_model_item(result, path),
    )
    write_item(item, path, overwrite=True)


def _relative(file: Path, item: str) -> str:
    """The file as the item names it: both can be moved together."""
    folder = Path(item).resolve().parent
    return Path(os.path.relpath(file.resolve(), folder)).as_posix()


def _model_item(result: SegmentMap, path: str) -> str:
    """Write the model's own item (MLM) beside the run's; its href, empty where it is unknown.

    Methods without weights have one, too: the card in it is all that they are.
    """
    import json

    from geoseg.engine.store import JobStore
    from geoseg.export.ogr import date
    from geoseg.export.target import written_beside
    from geoseg.models.deep.mlm import to_item
    from geoseg.models.segmenter import ModelCard

    job = JobStore(result.url.rpartition("/")[0], result.storage_options).read_json("job.json")
    if job is None:
        return ""
    card = ModelCard.from_dict(job["identity"]["model"])
    name = Path(path).stem + _MODEL
    # the card's name says the architecture: a network's, or a method and its formula
    architecture = {"name": card.name.partition(":")[0], "bands": max(len(card.bands), 1)}
    item = to_item(card, architecture, parameters=0, weights=name)
    del item["properties"]["mlm:total_parameters"]
    item["properties"] |= {
        "datetime": date().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "mlm:framework": "PyTorch" if card.sha256 else "geoseg",
        "geoseg:card": card.to_dict(),
    }
    item["assets"] = {
        "model": {
            "href": f"./{name}",
            "type": "application/geo+json",
            "title": f"weights of sha256 {card.sha256}" if card.sha256 else card.name,
            "roles": ["mlm:model"],
            "mlm:artifact_type": "geoseg",
        }
    }
    with written_beside(Path(path).with_name(name), True, kinds=("item",)) as part:
        text = json.dumps(item, indent=2, ensure_ascii=False, default=list)
        part.write_text(text, encoding="utf-8")
    return f"./{name}"
