"""ONNX files in and out, with the metadata that the Deepness plugin of QGIS reads and writes.

Deepness (https://qgis-plugin-deepness.readthedocs.io) keeps JSON values under fixed keys:
``model_type``, ``class_names``, ``resolution`` (cm), ``tile_size``, ``tiles_overlap`` (%),
``standardization_mean`` and ``_std`` (after a division by 255), ``seg_thresh``. geoseg adds
its whole card under ``geoseg``, which wins where it is present.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoseg.errors import ModelError, OutputError
from geoseg.models.deep.backends import logits_of
from geoseg.models.deep.foreign import plain_legend
from geoseg.models.deep.network import OnnxNetwork
from geoseg.models.deep.semantic import SemanticSegmenter
from geoseg.models.deep.traceable import for_tiles_of
from geoseg.models.deep.yolo import YoloSegmenter, is_yolo, yolo_card
from geoseg.models.segmenter import ModelCard
from geoseg.radiometry import Normalization

__all__ = ["deepness_metadata", "export_onnx", "load_onnx"]

OPSET = 17
RUNTIMES = ("onnxruntime-fp32", "openvino-fp32")
_ACTIVATIONS = {"Softmax", "Sigmoid"}


def _onnx() -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModelError("ONNX files need onnx: pip install 'geoseg[onnx]'") from error
    return onnx


def load_onnx(path: Path) -> SemanticSegmenter | YoloSegmenter:
    """A network in an ONNX file: semantic, or instances with YOLO-seg's outputs.

    Raises ModelError where it is neither, where it keeps its weights in other files, or
    where its classes and outputs don't agree.
    """
    onnx = _onnx()
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes()
        model = onnx.load_model_from_string(data)
    except (OSError, DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file: {error}") from error
    outside = [t.name for t in _tensors(model.graph) if t.data_location == t.EXTERNAL]
    if outside:
        raise ModelError(
            f"{path}: refused: {len(outside)} of its tensors lie in other files "
            f"({outside[0]}): save it as one file, with all tensors inside"
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    outputs = [_shape(value) for value in model.graph.output]
    if is_yolo(outputs):
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [_shape(value) for value in model.graph.input if value.name not in weights]
        sha256 = hashlib.sha256(data).hexdigest()
        shapes = (inputs[0], outputs[0], outputs[1])
        network = OnnxNetwork(path.resolve(), sha256, ("onnxruntime",))
        return YoloSegmenter(yolo_card(path, metadata, shapes, sha256), network)
    card = _card(path, model.graph, metadata, hashlib.sha256(data).hexdigest())
    return SemanticSegmenter(card, OnnxNetwork(path.resolve(), card.sha256))


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors of a graph and of the graphs within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else []:
                yield from _tensors(inner)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _shape(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


def _card(path: Path, graph: Any, metadata: Mapping[str, str], sha256: str) -> ModelCard:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    shape_in = _shape(inputs[0]) if inputs else []
    shape_out = _shape(graph.output[0]) if graph.output else []
    if len(inputs) != 1 or len(shape_in) != 4 or len(shape_out) != 4 or not shape_in[1]:
        raise ModelError(
            f"{path}: not a semantic network: its inputs are {[_shape(v) for v in inputs]} and "
            f"its first output {shape_out}; (tile, band, row, col) and (tile, class, row, col) "
            "are wanted"
        )
    if "geoseg" in metadata:
        card = ModelCard.from_dict(json.loads(metadata["geoseg"]))
        return replace(card, sha256=sha256, runtimes=RUNTIMES)
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    activated = made_by.get(graph.output[0].name) in _ACTIVATIONS
    return from_deepness(path, metadata, (shape_in, shape_out), activated, sha256)


def from_deepness(
    path: Path,
    metadata: Mapping[str, str],
    shapes: tuple[list[int | None], list[int | None]],
    activated: bool,
    sha256: str,
) -> ModelCard:
    """The card that Deepness's metadata and the shapes of input and output give."""
    kind = str(_value(path, metadata, "model_type", "Segmentor")).capitalize()
    if kind != "Segmentor":
        raise ModelError(f"{path}: its model_type is {kind}: geoseg runs Segmentor as semantic")
    (_, bands, rows, _), (_, classes, _, _) = shapes
    assert bands is not None
    names = _class_names(path, metadata)
    count = max(classes or len(names), 2)
    if names and len(names) == 1 and classes == 1:
        names = {0: "background", 1: names[0]}
    if names and len(names) != count:
        raise ModelError(f"{path}: it gives {count} classes and names {len(names)}: {names}")
    tile_size = rows or int(_value(path, metadata, "tile_size", 512))
    overlap = float(_value(path, metadata, "tiles_overlap", 15))
    divisor = 32 if tile_size % 32 == 0 else 1
    half = tile_size * overlap / 200
    resolution = _value(path, metadata, "resolution", None)
    mean = _value(path, metadata, "standardization_mean", [0.0])
    std = _value(path, metadata, "standardization_std", [1.0])
    rgb = ("red", "green", "blue")
    return ModelCard(
        name=path.stem,
        task="semantic",
        bands=rgb if bands == 3 else tuple(f"band_{i + 1}" for i in range(bands)),
        legend=plain_legend(count, names),
        gsd_m=None if resolution is None else (float(resolution) / 100,) * 2,
        normalization=Normalization(scale=(1 / 255,), mean=tuple(mean), std=tuple(std)),
        value_range=(0.0, 255.0),
        tile_size=tile_size,
        halo=round(half / divisor) * divisor,
        divisor=divisor,
        runtimes=RUNTIMES,
        parameters={"activated": True} if activated else {},
        summary="ONNX file with Deepness metadata" if metadata else "ONNX file without metadata",
        sha256=sha256,
    )


def _value(path: Path, metadata: Mapping[str, str], key: str, default: Any) -> Any:
    if key not in metadata:
        return default
    try:
        return json.loads(metadata[key])
    except ValueError:
        try:  # older files hold Python literals
            return ast.literal_eval(metadata[key])
        except (ValueError, SyntaxError) as error:
            raise ModelError(f"{path}: metadata {key} = {metadata[key]!r}: not JSON") from error


def _class_names(path: Path, metadata: Mapping[str, str]) -> dict[int, str]:
    for key in ("class_names", "names"):
        value = _value(path, metadata, key, None)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]  # one dictionary per output
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            return {int(number): str(name) for number, name in value.items()}
    return {}


def deepness_metadata(card: ModelCard) -> dict[str, str]:
    """What Deepness reads, as the JSON texts that it stores."""
    bands = len(card.bands)
    how = card.normalization
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {i: category.name for i, category in enumerate(card.legend)},
        "tile_size": card.tile_size,
        "tiles_overlap": round(200 * card.halo / card.tile_size),
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    if card.gsd_m is not None:
        values["resolution"] = round(100 * (card.gsd_m[0] * card.gsd_m[1]) ** 0.5, 6)
    if how.kind == "standard" and set(how.scale) == {1 / 255} and set(how.offset) == {0.0}:
        values["standardization_mean"] = list(how.mean) * (bands if len(how.mean) == 1 else 1)
        values["standardization_std"] = list(how.std) * (bands if len(how.std) == 1 else 1)
    return {key: json.dumps(value) for key, value in values.items()}


class _Activated(nn.Module):
    """A network that ends in probabilities, as Deepness expects them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(tile, band, row, col) to probabilities (tile, class, row, col)."""
        logits = logits_of(self.network(x))
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def export_onnx(segmenter: SemanticSegmenter, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a network as one ONNX file that gives probabilities, for any number of tiles of
    the card's size, with its card and Deepness's metadata. It is run once before it appears
    under its name. Raises OutputError, or ModelError where ONNX has no such operator.
    """
    onnx = _onnx()
    path, card = Path(path), segmenter.card
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or overwrite it")
    example = torch.rand(2, len(card.bands), card.tile_size, card.tile_size)
    whole = _Activated(segmenter.network.load()).eval()
    network = _Activated(for_tiles_of(segmenter.network.load(), example)).eval()
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        beside = Path(folder) / path.name
        _trace(network, example, beside, card.name)
        model = onnx.load(beside)
        parameters = dict(card.parameters) | {"activated": True}
        metadata = deepness_metadata(card)
        metadata["geoseg"] = json.dumps(replace(card, parameters=parameters).to_dict())
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, beside)
        _check_same(beside, whole, example)
        beside.replace(path)
    return path


def _trace(network: nn.Module, example: Tensor, path: Path, name: str) -> None:
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                # traced first: some networks take another way while they are exported
                torch.jit.trace(network, example, check_trace=False),
                (example,),
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=["pixels"],
                output_names=["probabilities"],
                dynamic_axes={"pixels": {0: "tile"}, "probabilities": {0: "tile"}},
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"{name}: ONNX can't hold this network: {first}") from error


def _check_same(path: Path, network: nn.Module, example: Tensor) -> None:
    """The written file, run by ONNX Runtime, gives what torch gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixels": example.numpy()})
    with torch.inference_mode():
        wanted = network(example).numpy()
    worst = float(abs(found - wanted).max())
    if not worst < 1e-3:
        raise ModelError(f"{path.name}: the exported network differs by {worst:.2g}: not written")
