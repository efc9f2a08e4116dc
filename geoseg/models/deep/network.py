"""Where a network comes from: a bundle, a module in memory, an ONNX file.

Each is small, hashable and picklable; weights are read once per process, on first use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from geoseg.errors import ModelError
from geoseg.models.deep.architectures import build
from geoseg.models.deep.bundle import open_bundle

__all__ = [
    "BundleNetwork",
    "ModuleNetwork",
    "Network",
    "OnnxNetwork",
    "load_weights",
    "read_state_dict",
]


class Network(Protocol):
    """``key`` tells one from any other; ``backends`` are those that can run it."""

    @property
    def key(self) -> str:
        """Identity: of the same key, the same output."""
        ...

    @property
    def backends(self) -> tuple[str, ...]:
        """Backends that can run it."""
        ...

    def load(self) -> nn.Module:
        """The module with its weights, for inference, on the CPU; raises ModelError."""
        ...


@dataclass(frozen=True)
class BundleNetwork:
    """The network of a bundle; workers read it from the same path."""

    path: Path
    key: str
    backends: tuple[str, ...] = ("torch", "openvino")

    def load(self) -> nn.Module:
        """See Network."""
        bundle = open_bundle(self.path)
        if bundle.card.sha256 != self.key:
            raise ModelError(
                f"{self.path}: its weights have changed since the job was planned "
                f"({self.key[:12]}... then, {bundle.card.sha256[:12]}... now)"
            )
        module = build(bundle.architecture)
        load_weights(module, bundle.read_weights(), str(self.path))
        return module.eval().requires_grad_(False)


@dataclass(frozen=True)
class ModuleNetwork:
    """A module that is in memory: (tile, band, row, col) float32 to logits of its classes."""

    module: nn.Module = field(compare=False, repr=False)
    key: str
    backends: tuple[str, ...] = ("torch", "openvino")

    @classmethod
    def of(cls, module: nn.Module) -> ModuleNetwork:
        """Its key is the sha256 of its structure and tensors."""
        digest = hashlib.sha256(repr(module).encode())
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return cls(module, digest.hexdigest())

    def load(self) -> nn.Module:
        """A copy, so that fusing leaves the person's own module alone."""
        from copy import deepcopy

        return deepcopy(self.module).cpu().eval().requires_grad_(False)


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX file, run by an ONNX runtime; it is never turned into a module."""

    path: Path
    key: str
    backends: tuple[str, ...] = ("onnxruntime", "openvino")

    def load(self) -> nn.Module:
        """Not possible; raises ModelError."""
        raise ModelError(f"{self.path}: an ONNX file runs on onnxruntime or openvino, not torch")


def load_weights(module: nn.Module, weights: dict[str, torch.Tensor], source: str) -> None:
    """Fill a module; raises ModelError that names what doesn't fit on both sides."""
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    extra = sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    if missing or extra or shapes:
        parts = [
            f"{len(missing)} missing ({', '.join(missing[:2])})" if missing else "",
            f"{len(extra)} unknown ({', '.join(extra[:2])})" if extra else "",
            f"{len(shapes)} of another shape ({', '.join(sorted(shapes)[:2])})" if shapes else "",
        ]
        raise ModelError(
            f"{source}: its weights are not those of this architecture: "
            f"{'; '.join(filter(None, parts))}. State the right architecture, encoder and bands"
        )
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Plain tensors of a .safetensors, .pt, .pth or .ckpt file; nothing in it is executed.

    Lightning's and TorchGeo's ``state_dict`` entry and common prefixes are unwrapped.
    Raises ModelError for anything that is not plain tensors.
    """
    import pickle

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: not a safetensors file: {error}") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        # torch's own words advise to execute it
        raise ModelError(
            f"{path}: not plain tensors, so it was not loaded, for a pickle can run any code: save "
            "the model's state_dict, best as .safetensors"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds a {type(found).__name__}, not a state_dict")
    tensors = {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise ModelError(f"{path}: holds no tensors by name: not a state_dict")
    return _without_prefix(tensors)


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What trainers put before every name is taken off; what isn't the model's is left out."""
    for prefix in ("model.", "module.", "net.", "_orig_mod."):
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        others = [k for k in tensors if not k.startswith(prefix)]
        # losses and metrics of a trainer may hold a few tensors beside the model's
        if inside and all(k.startswith(("criterion", "loss", "train_", "val_")) for k in others):
            return _without_prefix(inside)
    return tensors
