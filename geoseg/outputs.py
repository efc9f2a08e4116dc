"""A SegmentMap to files: each kind of output by the module that knows its format."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.engine.report import NoProgress
from geoseg.engine.segmentmap import SegmentMap
from geoseg.errors import InputError, OutputError
from geoseg.heap import give_back
from geoseg.layers import layer_in_name, write_layer
from geoseg.legend import NODATA_CATEGORY
from geoseg.mapsource import MapSource
from geoseg.outlines import Geometry, as_geometry, layer_type
from geoseg.preview import write_picture
from geoseg.sharing import ORDER, beside, companions, polygons_of, share

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

    from geoseg.engine.report import Progress, RunReport
    from geoseg.scene.reader import Scene

__all__ = [
    "PolygonOptions",
    "check_outputs",
    "check_report",
    "polygon_batches",
    "to_polygons",
    "write_map",
    "write_raster",
    "write_report",
]


_INDEX_BYTES = 4 << 20
"""Of a GeoPackage's index, so that a job takes no more memory where there is more to map: polygons
come as slowly there as they are mapped."""


@dataclass(frozen=True, kw_only=True)
class PolygonOptions:
    """How polygons are made of a map.

    Attributes:
        simplify_m: tolerance in metres; 0 keeps every pixel corner.
        smooth: round the corners of pixels, before simplifying.
        pixel_coords: polygons in pixels (x right, y down) where there is no CRS.
        threads: tiles that are traced at once.
        geometry: what stands for a segment in vector files.
    """

    simplify_m: float = 0.0
    smooth: bool = False
    pixel_coords: bool = False
    threads: int = 1
    geometry: Geometry = "polygon"

    def in_pixels(self, result: SegmentMap) -> bool:
        """Whether polygons of a map have pixels as coordinates."""
        return self.pixel_coords and result.geobox.crs is None


def check_report(path: str, targets: Sequence[Path], *, overwrite: bool) -> None:
    """The same for a run report: a .json of its own; raises OutputError."""
    from geoseg.export.target import check_output

    if check_output(path, overwrite, kinds=("item",)) in targets:
        raise OutputError(f"{path}: is an output already: give the report another name")


def write_report(report: Mapping[str, Any], path: str) -> None:
    """A run report as JSON, whole or not at all; replaces what is there."""
    from geoseg.export.target import written_beside

    with written_beside(path, overwrite=True) as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def check_outputs(
    outputs: Sequence[str], scene: Scene, *, pixel_coords: bool, overwrite: bool
) -> list[Path]:
    """All that can be known about outputs before any work; raises InputError's children."""
    from geoseg.export.projectlayer import ProjectLayer, check_name
    from geoseg.export.target import check_companion, check_output, kind_of
    from geoseg.scene.geodesy import on_the_earth

    if len({Path(path).resolve() for path in outputs}) != len(outputs):
        raise InputError(f"an output is named twice: {', '.join(outputs)}")
    outputs = [*outputs, *companions(outputs)]
    targets = [check_output(path, overwrite=overwrite) for path in outputs]
    for path in beside(outputs, scene):
        if check_companion(path, overwrite) in targets:
            raise InputError(f"{path}: is written beside another output: choose another name")
    if any(kind_of(path) == "project" for path in outputs):
        check_name(ProjectLayer(path=Path(polygons_of(outputs)[0]), role="polygons", name=""))
    for path in outputs:
        if kind_of(path) == "item" and scene.geobox.crs is None:
            raise InputError(f"{path}: a STAC item needs a CRS: give it with --assume-crs")
        in_degrees = kind_of(path) == "item" or Path(path).suffix.lower() in _IN_DEGREES
        if in_degrees and scene.geobox.crs is not None and not on_the_earth(scene.geobox):
            raise InputError(
                f"{path}: is in WGS 84, but {scene.name} has a local CRS ({scene.geobox.crs}), "
                "which has no place on the earth: write .gpkg, .fgb or .parquet"
            )
        if Path(path).suffix.lower() == ".geojson" and scene.geobox.crs is None:
            raise InputError(
                f"{path}: GeoJSON is in WGS 84, but {scene.name} has no CRS: write .gpkg, .fgb or "
                ".parquet, or give the CRS with --assume-crs"
            )
        if kind_of(path) == "vector" and not pixel_coords:
            if not scene.georeferenced:
                raise InputError(
                    f"{scene.name}: has no georeference, polygons would lie nowhere: "
                    "use --pixel-coords for polygons in pixels"
                )
            if scene.geobox.crs is None:
                raise InputError(
                    f"{scene.name}: has no CRS: give it with --assume-crs EPSG:..., "
                    "or use --pixel-coords for polygons in pixels"
                )
    return targets


_TRIM_PIXELS = 64 << 20
"""Between two of them the heap of a large map gathers no more holes than that of a small one."""

_IN_DEGREES = (".geojson", ".pmtiles")
IN_PIXELS = "pixels, x to the right and y down from the upper left corner"


def polygon_batches(
    result: SegmentMap, options: PolygonOptions | None = None, progress: Progress | None = None
) -> Iterator[pa.RecordBatch]:
    """The map's polygons as a stream of Arrow batches, in bounded memory; at least one.

    Columns are segment_id, category_id, category, isthing, instance_id, score, area_m2,
    perimeter_m, pixels, on_edge and geometry (WKB, MultiPolygon).
    """
    from affine import Affine

    from geoseg.vectorize.stream import VectorizeOptions, polygonize_blocks
    from geoseg.vectorize.table import Attributes

    options = options or PolygonOptions()
    source = MapSource(result)
    crs = result.geobox.crs
    attributes = Attributes(
        transform=Affine.identity() if options.in_pixels(result) else result.geobox.affine,
        crs_wkt=None if crs is None else crs.to_wkt(),
        legend=result.legend,
        dtype=source.dtype,
    )
    done = trimmed = 0

    def on_rows(rows: int) -> None:
        nonlocal done, trimmed
        if progress is not None:
            progress.advance((rows - done) * source.shape[1])
        done = rows
        if (done - trimmed) * source.shape[1] > _TRIM_PIXELS:
            give_back()
            trimmed = done

    wanted = VectorizeOptions(
        nodata=(NODATA_CATEGORY,),
        shared_vertices=True,
        simplify_m=options.simplify_m,
        smooth=options.smooth,
        threads=options.threads,
    )
    return polygonize_blocks(source, wanted, attributes, on_rows)


def to_polygons(result: SegmentMap, **options: Any) -> gpd.GeoDataFrame:
    """The map's polygons in memory; options are those of PolygonOptions."""
    import pyarrow as pa

    from geoseg.polygons import to_frame

    table = pa.Table.from_batches(polygon_batches(result, PolygonOptions(**options)))
    crs = result.geobox.crs
    return to_frame(table, None if crs is None else crs.to_wkt())


def write_map(
    result: SegmentMap,
    scene: Scene,
    outputs: Sequence[str],
    options: PolygonOptions,
    report: RunReport,
    progress: Progress,
) -> None:
    """Write each output; all replace what is there (checked before by ``check_outputs``).

    With more than one thread rasters are written while polygons are.
    """
    from geoseg.export.target import kind_of

    # a project is made of other files, a STAC item describes them: these come last
    wanted = [*outputs, *companions(outputs)]
    ordered = sorted(wanted, key=lambda other: ORDER.get(kind_of(other), 0))
    rasters = [path for path in ordered if kind_of(path) == "raster"]
    polygons = [path for path in ordered if kind_of(path) == "vector"]

    def write(path: str, progress: Progress) -> None:
        kind = kind_of(path)
        start = time.perf_counter()
        progress.start(f"write {Path(path).suffix[1:]}", result.region.pixels)
        if kind == "vector":
            _write_polygons(result, path, options, progress)
            if options.in_pixels(result):
                report.warnings.append(f"{path}: polygons are in {IN_PIXELS}")
        elif kind == "raster" and (layer := layer_in_name(path, result)) is not None:
            write_layer(result, layer, path, provenance_of(result), overwrite=True)
        elif kind == "raster":
            write_raster(result, path, overwrite=True)
        elif kind == "picture":
            write_picture(result, scene, path, report)
        elif kind == "map":
            _write_zarr(result, path)
        else:
            share(result, scene, path, wanted, options, report)
        report.add_seconds({f"write {Path(path).suffix[1:]}": time.perf_counter() - start})

    if options.threads > 1 and rasters and polygons:
        with _meanwhile(partial(_each, write, rasters, NoProgress())):
            _each(write, polygons, progress)
        ordered = [path for path in ordered if path not in {*rasters, *polygons}]
    _each(write, ordered, progress)
    report.outputs += [str(path) for path in wanted]


def _each(write: Callable[[str, Progress], None], paths: Sequence[str], progress: Progress) -> None:
    for path in paths:
        write(path, progress)


@contextlib.contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """``work`` in a thread of its own while the block runs; raises what either raises."""
    pool = ThreadPoolExecutor(1, "meanwhile")
    wait = True
    try:
        done = pool.submit(work)
        yield
        done.result()
    except KeyboardInterrupt:
        wait = False  # GDAL can't be told to stop, and nobody waits for what is given up
        raise
    finally:
        pool.shutdown(wait=wait)


def provenance_of(result: SegmentMap) -> dict[str, str]:
    """The map's provenance as text, for the metadata of files."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in result.provenance.items()
    }


def _write_polygons(
    result: SegmentMap, path: str, options: PolygonOptions, progress: Progress
) -> None:
    from geoseg.export.vector import VectorOptions, write_vector

    write_vector(
        as_geometry(polygon_batches(result, options, progress), options.geometry),
        path,
        legend=result.legend,
        crs=None if result.geobox.crs is None else result.geobox.crs.to_wkt(),
        provenance=provenance_of(result) | _outlines(result, options),
        overwrite=True,
        options=VectorOptions(
            geometry_type=layer_type(options.geometry),
            threads=options.threads,
            index_bytes=_INDEX_BYTES,
        ),
    )


def _outlines(result: SegmentMap, options: PolygonOptions) -> dict[str, str]:
    """How the polygons were made of the map, for the metadata of their file."""
    made = {
        "geometry": options.geometry,
        "simplify_m": options.simplify_m,
        "smooth": options.smooth,
    }
    found = {"outlines": json.dumps(made)}
    return found | ({"coordinates": IN_PIXELS} if options.in_pixels(result) else {})


def write_raster(result: SegmentMap, path: str, *, overwrite: bool = False) -> None:
    """The map's categories as a Cloud Optimized GeoTIFF, with colours and names."""
    from geoseg.export import raster

    raster.write_raster(
        lambda window: result.read(window, ["category_id"])["category_id"],
        path,
        geobox=result.geobox,
        legend=result.legend,
        provenance=provenance_of(result),
        overwrite=overwrite,
    )


def _write_zarr(result: SegmentMap, path: str) -> None:
    """The map itself, to be read by later commands; moved into place when it is whole."""
    beside = Path(f"{path}.geoseg-part")
    shutil.rmtree(beside, ignore_errors=True)
    if "://" in result.url:
        import fsspec

        fs, root = fsspec.core.url_to_fs(result.url, **result.storage_options)
        fs.get(root, str(beside), recursive=True)
    else:
        shutil.copytree(result.url, beside)
    SegmentMap.open(str(beside))
    shutil.rmtree(path, ignore_errors=True)
    beside.rename(path)
