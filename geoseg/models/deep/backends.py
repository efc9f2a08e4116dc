"""A network made ready on a backend: a function from inputs to logits, once per process.

torch: fused, channels last, in the pinned precision. OpenVINO: converted once, the result
kept in the user's cache folder. ONNX Runtime: for ONNX files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoseg.errors import ModelError
from geoseg.models.deep.fuse import fuse
from geoseg.models.deep.network import Network, OnnxNetwork
from geoseg.models.deep.runtime import configure, dtype_of, memory_format
from geoseg.models.segmenter import Runtime

__all__ = ["Forward", "cache_folder", "forward_of"]

Forward = Callable[[Tensor], Tensor]
"""(tile, band, row, col) float32 to logits (tile, class, row, col) float32, same device."""

_log = logging.getLogger("geoseg")
_ready: OrderedDict[tuple[Any, ...], Forward] = OrderedDict()
_lock = threading.Lock()

KEPT = 16
"""Networks that a process keeps ready; the one not used for longest goes first."""


def forward_of(network: Network, runtime: Runtime, shape: tuple[int, ...]) -> Forward:
    """The network on a runtime, for batches of ``shape`` (tile, band, row, col).

    Kept for as long as the process lives. Raises ModelError where it can't be had.
    """
    configure(threads=runtime.threads, device=runtime.device)
    key: tuple[Any, ...] = (network.key, runtime.device, runtime.backend, runtime.precision)
    if runtime.backend != "torch":
        key += (runtime.threads, shape)
    with _lock:
        if key not in _ready:
            openers = {
                "torch": _open_torch,
                "openvino": _open_openvino,
                "onnxruntime": _open_onnxruntime,
            }
            _ready[key] = openers[runtime.backend](network, runtime, shape)
            while len(_ready) > KEPT:
                _ready.popitem(last=False)
        _ready.move_to_end(key)
        return _ready[key]


def cache_folder() -> Path:
    """Where converted models are kept: $GEOSEG_CACHE, else the user's cache folder."""
    given = os.environ.get("GEOSEG_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "geoseg"


def _open_torch(network: Network, runtime: Runtime, shape: tuple[int, ...]) -> Forward:
    module = network.load()
    fuse(module, torch.zeros((1, *shape[1:])))
    dtype = dtype_of(runtime.precision)
    module = module.to(memory_format=memory_format(runtime.device))
    module = module.to(device=runtime.device, dtype=dtype)

    def forward(x: Tensor) -> Tensor:
        out = module(x.to(dtype).contiguous(memory_format=memory_format(runtime.device)))
        return logits_of(out).float()

    return Halving(forward)


def logits_of(out: Any) -> Tensor:
    """The logits among what a module gives: a tensor, or torchvision's and others' dict."""
    if isinstance(out, dict):
        out = out.get("out", out.get("logits"))
    if not isinstance(out, Tensor) or out.ndim != 4:
        raise ModelError(
            "the module gives no tensor (tile, class, row, col): wrap it so that forward does"
        )
    return out


@dataclass
class Limit:
    """How many tiles at once fit the memory; None: no end was seen."""

    tiles: int | None = None


class Halving:
    """Runs a step on a batch; where memory is short, on its halves, down to single tiles.

    Steps that share a ``limit`` know from each other how many tiles fit.
    """

    def __init__(self, step: Forward, limit: Limit | None = None) -> None:
        self._step = step
        self.limit = limit or Limit()

    def __call__(self, x: Tensor) -> Tensor:
        """(tile, ...) to (tile, ...)."""
        if self.limit.tiles is not None and len(x) > self.limit.tiles:
            return torch.cat([self(part) for part in x.split(self.limit.tiles)])
        try:
            return self._step(x)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            rows = x.shape[-1]
        # outside the handler, so that what the failed attempt held is free again
        if len(x) == 1:
            raise ModelError(f"not even one tile of {rows} px fits the memory: lower --tile-size")
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
        self.limit.tiles = (len(x) + 1) // 2
        _log.warning("memory is short: batches of %d tiles from here on", self.limit.tiles)
        return self(x)


_SHORT = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch on the CPU, CUDA's driver, and cuDNN and cuBLAS say where memory is short."""


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _SHORT)


def _open_openvino(network: Network, runtime: Runtime, shape: tuple[int, ...]) -> Forward:
    import openvino

    core = openvino.Core()
    if isinstance(network, OnnxNetwork):
        model = core.read_model(network.path)
        model.reshape(list(shape))
    else:
        model = core.read_model(_converted(network, shape))
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[runtime.precision],
            "INFERENCE_NUM_THREADS": runtime.threads or 1,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = compiled.create_infer_request()
    turn = threading.Lock()

    def forward(x: Tensor) -> Tensor:
        with turn:
            result = request.infer({0: x.contiguous().numpy()}, share_inputs=True)
            return torch.from_numpy(result[0])

    return forward


def _converted(network: Network, shape: tuple[int, ...]) -> Path:
    """OpenVINO's form of a network, converted on first use and kept."""
    import openvino

    text = f"{network.key} {shape} {openvino.__version__} {torch.__version__}"
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = cache_folder() / "openvino" / name
    if not folder.is_dir():
        module = network.load()
        example = torch.zeros(shape)
        with torch.no_grad():
            model = openvino.convert_model(module, example_input=example, input=list(shape))
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        openvino.save_model(model, beside / "model.xml", compress_to_fp16=False)
        try:
            beside.rename(folder)
        except OSError:  # another process was first
            return beside / "model.xml"
    return folder / "model.xml"


def _open_onnxruntime(network: Network, runtime: Runtime, _: tuple[int, ...]) -> Forward:
    import onnxruntime

    if not isinstance(network, OnnxNetwork):
        raise ModelError("onnxruntime runs ONNX files: export the model with 'geoseg bundle'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.threads or 1
    options.log_severity_level = 3
    # the file's own external data and custom operators were refused when it was opened
    session = onnxruntime.InferenceSession(
        network.path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    fixed = session.get_inputs()[0].shape[0]

    def forward(x: Tensor) -> Tensor:
        parts = x.split(fixed) if isinstance(fixed, int) else [x]
        outs = [session.run(None, {name: part.contiguous().numpy()})[0] for part in parts]
        return torch.cat([torch.from_numpy(out) for out in outs])

    return forward
