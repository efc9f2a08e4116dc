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
    "ModelCard": "geoseg.models.segmenter",
    "Scene": "geoseg.scene.reader",
    "Segmenter": "geoseg.models.segmenter",
    "Window": "geoseg.grid",
    "open_scene": "geoseg.scene.opening",
}

__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
