"""geoseg: imagery of any size to map layers, exact across tiles, bounded in memory.

Names are loaded when they are first used: importing geoseg loads neither torch nor dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Category": "geoseg.legend",
    "GeosegError": "geoseg.errors",
    "Legend": "geoseg.legend",
    "MapRequest": "geoseg.pipeline",
    "ModelCard": "geoseg.models.segmenter",
    "Plan": "geoseg.engine.plan",
    "Region": "geoseg.scene.region",
    "RunOptions": "geoseg.pipeline",
    "Scene": "geoseg.scene.reader",
    "SceneOptions": "geoseg.scene.opening",
    "SegmentMap": "geoseg.engine.segmentmap",
    "Segmenter": "geoseg.models.segmenter",
    "Window": "geoseg.grid",
    "from_array": "geoseg.scene.arrays",
    "load_model": "geoseg.models.catalogue",
    "map_folder": "geoseg.folder",
    "map_scene": "geoseg.pipeline",
    "measure_halo": "geoseg.pipeline",
    "mosaic": "geoseg.scene.mosaic",
    "open_scene": "geoseg.scene.opening",
    "open_scenes": "geoseg.scene.opening",
    "plan": "geoseg.pipeline",
    "polygonize": "geoseg.polygons",
    "progress_bar": "geoseg.commands.progress",
    "resampled": "geoseg.scene.regrid",
    "segment": "geoseg.pipeline",
    "stack": "geoseg.scene.stack",
    "to_polygons": "geoseg.outputs",
    "write_raster": "geoseg.outputs",
    "write_vector": "geoseg.export.vector",
}

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
