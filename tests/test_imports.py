"""The layers of docs/architecture.md, kept by reading the imports of every module."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "geoseg"

NOUNS = {"numpy", "affine", "odc"}
PURE = NOUNS | {
    "scipy",
    "numba",
    "llvmlite",
    "skimage",
    "sklearn",
    "shapely",
    "pyproj",
    "pyarrow",
    "pandas",
    "geopandas",
}
ADAPTERS = PURE | {"rasterio", "pyogrio", "pystac", "xarray", "rioxarray"}
DEEP = ADAPTERS | {
    "torch",
    "torchvision",
    "segmentation_models_pytorch",
    "timm",
    "transformers",
    "safetensors",
    "huggingface_hub",  # which timm and segmentation-models-pytorch bring along
    "google",  # protobuf's errors, which onnx raises
    "onnx",
    "onnxruntime",
    "openvino",
    "psutil",
}
ENGINE = PURE | {"zarr", "fsspec", "psutil", "safetensors"}

STAGES = ("scene", "models", "stitch", "vectorize", "products", "labels", "export", "assess")
"""Folders that never import each other."""

ROOT_PURE = {"ahead", "arrow", "errors", "legend", "grid", "radiometry", "heap", "switching", ""}

EXCEPTIONS: dict[str, set[str]] = {
    # module: what it may import beyond its layer, and why
    "engine/cluster.py": {"dask", "distributed"},  # the one place that knows Dask, with
    "engine/given.py": {"distributed"},  # its types: what a cluster hands out to its workers
    "engine/segmentmap.py": {"xarray"},  # handing a map over to xarray, in memory
    "export/picture.py": {"matplotlib"},  # drawing is its whole purpose
    "labels/sources.py": {"geoseg.shapes"},  # reading what a person drew: one copy
    "models/deep/detections.py": {"geoseg.stitch"},  # NMS, flattening and fusion: one copy
    "models/deep/pair.py": {"geoseg.stitch"},  # the same fusion
    "models/segmenter.py": {"geoseg.scene"},  # the type of for_scene's argument, TYPE_CHECKING
}


def layer(module: str) -> set[str] | None:
    """Third-party names that a module may import; None: anything."""
    top = module.partition("/")[0]
    if module in {"ahead.py", "errors.py", "legend.py", "grid.py", "heap.py", "switching.py"}:
        return NOUNS
    if module in {"arrow.py", "radiometry.py", "scene/reader.py", "models/segmenter.py"}:
        return PURE
    if module.startswith("models/deep/"):
        return DEEP
    if module.startswith("models/classic/") or top in {"stitch", "vectorize", "products", "assess"}:
        return PURE
    if top in {"scene", "labels", "export", "models"}:
        return ADAPTERS
    if top == "engine":
        return ENGINE
    return None


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


MODULES = sorted(
    str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if "plugin" not in p.parts
)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    allowed = layer(module)
    if allowed is None:
        return
    extra = EXCEPTIONS.get(module, set())
    top = module.partition("/")[0]
    for name in imports_of(PACKAGE / module):
        root = name.partition(".")[0]
        if root == "geoseg":
            check_own(module, top, name, extra)
        elif root not in sys.stdlib_module_names:
            assert root in allowed | extra, f"{module} imports {name}"


def check_own(module: str, top: str, name: str, extra: set[str]) -> None:
    parts = name.split(".")
    stage = parts[1] if len(parts) > 1 else ""
    own = ".".join(parts[:2])
    if own in extra or stage == top or stage in ROOT_PURE:
        return
    protocols = {"geoseg.models.segmenter", "geoseg.scene.reader"}
    if name in protocols:
        return
    if top in STAGES or module in {"errors.py", "legend.py", "grid.py", "heap.py", "radiometry.py"}:
        raise AssertionError(f"{module} imports {name}: stages never import each other")
    if top == "engine":
        # stages come in as arguments or through the pipeline, but their pure parts may be used
        assert stage in {"stitch", "vectorize"}, f"{module} imports {name}"


def test_the_layers_catch_what_they_should() -> None:
    with pytest.raises(AssertionError):
        check_own("stitch/x.py", "stitch", "geoseg.export.vector", set())
    with pytest.raises(AssertionError):
        check_own("grid.py", "grid.py", "geoseg.engine.plan", set())
