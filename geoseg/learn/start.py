"""Weights to start from: an encoder's file, or a bundle that is trained further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geoseg.errors import InputError, ModelError
from geoseg.models.deep.bundle import is_bundle, open_bundle

__all__ = ["start_from"]

_PREFIXES = ("", "encoder.", "encoder.model.")
"""What may be missing before the names: nothing, or that timm's names are the encoder's."""


def start_from(network: nn.Module, path: Path, classes: Sequence[str]) -> str:
    """Put the tensors that fit into ``network``; what was taken, for the card.

    The first convolution of an encoder of other bands is spread: its mean over bands, so
    that the sum stays.

    Raises:
        ModelError: nothing fits.
        InputError: a bundle with the same ``classes`` in another order, whose last layer would
            take each for another.

    """
    if path.exists() and is_bundle(path):
        before = [category.name for category in open_bundle(path).card.legend]
        if before != list(classes) and sorted(before) == sorted(classes):
            raise InputError(
                f"--start {path}: its classes are {', '.join(before)}, here they are "
                f"{', '.join(classes)}: say --classes {','.join(before)}"
            )
    given = _read(path)
    own = network.state_dict()
    prefix = max(_PREFIXES, key=lambda p: sum(p + name in own for name in given))
    fitting = {}
    for name, value in given.items():
        target = own.get(prefix + name)
        if target is None:
            continue
        made = _fitted(value, target)
        if made is not None:
            fitting[prefix + name] = made
    if not fitting:
        raise ModelError(f"{path}: none of its {len(given)} tensors fits the network")
    network.load_state_dict(fitting, strict=False)
    return f"; started from {path.name} ({len(fitting)} of {len(own)} tensors)"


def _read(path: Path) -> dict[str, Tensor]:
    if path.exists() and is_bundle(path):
        return open_bundle(path).read_weights()
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: neither a bundle nor a safetensors file: {error}") from error


def _fitted(value: Tensor, target: Tensor) -> Tensor | None:
    if value.shape == target.shape:
        return value.to(target.dtype)
    other_bands = value.ndim == 4 and target.ndim == 4 and value.shape[0] == target.shape[0]
    if other_bands and value.shape[2:] == target.shape[2:] and value.shape[1] in (1, 3, 4):
        # (out, band, row, col)
        total = value.float().sum(1, keepdim=True) / target.shape[1]
        return total.expand_as(target).to(target.dtype)
    return None
