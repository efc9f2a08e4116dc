"""A network for one size of tile, in operators that ONNX has.

What depends on the size of the tile alone is worked out beforehand: which pixels an adaptive
pooling averages, and the position embedding of a vision transformer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["for_tiles_of"]


class _FixedPool(nn.Module):
    """Adaptive average pooling of an input of known size, as two products of matrices."""

    rows: Tensor
    cols: Tensor

    def __init__(self, size: tuple[int, int], out: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", _means(size[0], out[0]))
        self.register_buffer("cols", _means(size[1], out[1]).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(tile, channel, row, col) to (tile, channel, out row, out col)."""
        return self.rows @ x @ self.cols


def _means(size: int, out: int) -> Tensor:
    """(out, size): each row averages what torch's adaptive pooling averages."""
    weights = torch.zeros(out, size)
    for i in range(out):
        first, last = i * size // out, -(-(i + 1) * size // out)
        weights[i, first:last] = 1 / (last - first)
    return weights


def for_tiles_of(network: nn.Module, example: Tensor) -> nn.Module:
    """The network changed in place for tiles of the example's size (tile, band, row, col)."""
    for part in list(network.modules()):
        resize: Any = getattr(part, "set_input_size", None)
        if resize is not None and getattr(part, "dynamic_img_size", False):
            resize(img_size=tuple(example.shape[-2:]))
    for name, size in _pooled_sizes(network, example).items():
        pool = network.get_submodule(name)
        assert isinstance(pool, nn.AdaptiveAvgPool2d)
        wanted: Any = pool.output_size
        row, col = (wanted, wanted) if isinstance(wanted, int) else wanted
        out = (size[0] if row is None else int(row), size[1] if col is None else int(col))
        if out != (1, 1):  # a global mean needs no help
            network.set_submodule(name, _FixedPool(size, out))
    return network


def _pooled_sizes(network: nn.Module, example: Tensor) -> dict[str, tuple[int, int]]:
    """Rows and columns that each adaptive pooling sees, by its name."""
    sizes: dict[str, tuple[int, int]] = {}

    def seen(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows, cols = inputs[0].shape[-2:]
            sizes[name] = (int(rows), int(cols))

        return hook

    handles = [
        part.register_forward_pre_hook(seen(name))
        for name, part in network.named_modules()
        if isinstance(part, nn.AdaptiveAvgPool2d)
    ]
    try:
        if handles:
            with torch.inference_mode():
                network(example)
    finally:
        for handle in handles:
            handle.remove()
    return sizes
