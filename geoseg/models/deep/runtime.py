"""Where a network runs: device, backend, precision, threads, batch, allocator.

What could change a bit of the result is chosen once, pinned for the whole job, and refused
by a process that can't honour it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch

from geoseg.errors import ModelError
from geoseg.heap import keep_memory
from geoseg.models.names import BACKENDS, PRECISIONS, check_runtime_names
from geoseg.models.segmenter import ModelCard, Runtime

__all__ = ["available", "choose", "configure", "memory_format"]

BATCH_PX = 256 * 256
"""Pixels of a batch on a processor: more gains little and is wasted where a block is small."""

GPU_SHARE = 0.6
"""Share of a device's free memory that a batch may take."""


def configure(*, threads: int | None = None, device: str = "cpu") -> None:
    """Settings of this process that a pinned runtime asks for. Cheap to call again."""
    if device == "cpu":
        keep_memory()
    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if device.startswith("cuda"):
        # algorithms picked by timing could differ between two workers
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


@lru_cache(maxsize=1)
def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself (AVX-512 BF16 or AMX, or ARM's)."""
    try:
        with open("/proc/cpuinfo") as file:
            words = set(file.read().split())
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & words)


def default_device() -> str:
    """The best device of this machine."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def available(backend: str, precision: str, device: str) -> str:
    """Why a backend can't run in a precision on a device here; empty where it can."""
    if backend != "torch" and device != "cpu":
        return f"{backend} runs on the cpu here, not on {device}"
    if backend != "torch" and find_spec(backend) is None:
        extra = "onnx" if backend == "onnxruntime" else backend
        return f"{backend} is not installed: pip install 'geoseg[{extra}]'"
    if backend == "onnxruntime" and precision != "fp32":
        return "onnxruntime runs a model in the precision it was exported in: use fp32"
    if device == "cpu" and precision == "fp16":
        return "fp16 is for GPUs: use bf16 or fp32"
    if precision == "bf16" and device == "cpu" and not _cpu_has_bf16():
        return "this processor has no bf16: use fp32"
    if precision == "bf16" and device.startswith("cuda") and not _gpu_has_bf16():
        return "this GPU has no bf16: use fp16 or fp32"
    return ""


def _gpu_has_bf16() -> bool:
    """Of its own: an emulated one is slower than fp32."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    count = {"cpu": 1, "mps": int(torch.backends.mps.is_available())}.get(kind, 0)
    if kind == "cuda":
        count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise ModelError(f"device {device!r}: this machine has {count} of its kind; use cpu")


def choose(card: ModelCard, wanted: Runtime, backends: tuple[str, ...] = BACKENDS) -> Runtime:
    """Every choice made: what a person asked for, else the first of the card's pairs that
    this machine has.

    ``backends`` are those that the network can run on. Raises ModelError where what was
    asked for can't be had here.
    """
    check_runtime_names(wanted)
    device = default_device() if wanted.device == "auto" else wanted.device
    _check_device(device)
    # what the card was measured for comes first; the rest is had by asking for it
    pairs = [tuple(pair.split("-", 1)) for pair in card.runtimes]
    if wanted.backend != "auto" or wanted.precision != "auto":
        pairs += [(backend, precision) for backend in BACKENDS for precision in PRECISIONS]
    reasons = []
    for backend, precision in pairs:
        if wanted.backend not in ("auto", backend) or wanted.precision not in ("auto", precision):
            continue
        reason = available(backend, precision, device)
        if backend not in backends:
            reason = f"it does not run on {backend}"
        if not reason:
            return Runtime(
                device=device,
                backend=backend,
                precision=precision,
                threads=wanted.threads or os.cpu_count() or 1,
                batch=wanted.batch or default_batch(card, device),
            )
        reasons.append(reason)
    asked = f"--backend {wanted.backend} --precision {wanted.precision}"
    detail = "; ".join(dict.fromkeys(reasons))
    raise ModelError(f"{card.name} can't run on {device} with {asked}: {detail}")


def default_batch(card: ModelCard, device: str) -> int:
    """Tiles per batch: what the caches hold on a processor, what the memory holds on a GPU."""
    tile_px = card.tile_size**2
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        fitting = int(free * GPU_SHARE) // max(card.activation_px * tile_px, 1)
        return 1 << max(min(fitting, 64).bit_length() - 1, 0)
    return max(BATCH_PX // tile_px, 1)


def memory_format(device: str) -> torch.memory_format:
    """Channels last wherever convolutions are faster so."""
    return torch.contiguous_format if device == "mps" else torch.channels_last


def dtype_of(precision: str) -> torch.dtype:
    """The torch type of a precision."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
