"""Convolution and batch norm made one, wherever the norm takes exactly what one gives.

Which ones belong together is seen by watching a forward pass, so that networks written in
any way are fused without being traced or rewritten.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fuse"]


def fuse(network: nn.Module, example: Tensor) -> int:
    """Fuse in place, for inference; returns how many pairs were fused.

    ``example`` (tile, band, row, col) is run through the network once, or twice where there
    is a pair. A network whose output changes by more than rounding is put back as it was.
    """
    pairs = _pairs(network, example)
    if not pairs:
        return 0
    with torch.inference_mode():
        before = network(example)
    undo = [_fuse_pair(network, convolution, norm) for convolution, norm in pairs]
    with torch.inference_mode():
        after = network(example)
    scale = before.abs().max().clamp_min(1e-6)
    if not torch.isfinite(after).all() or ((after - before).abs().max() / scale) > 1e-3:
        for step in undo:
            step()
        return 0
    return len(pairs)


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of (convolution, norm) where the norm is the convolution's one listener."""
    made_by: dict[int, tuple[str, weakref.ref[Tensor]]] = {}
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}

    def after(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            module = modules[name]
            if isinstance(module, nn.Conv2d):
                made_by[id(output)] = name, weakref.ref(output)
                return
            maker, made = made_by.get(id(inputs[0]), ("", None))
            # an id is only its own while the tensor lives
            if made is not None and made() is inputs[0]:
                pairs.append((maker, name))

        return hook

    modules = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    }
    handles = [module.register_forward_hook(after(name)) for name, module in modules.items()]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    once = [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]
    listeners = [convolution for convolution, _ in pairs]
    return [pair for pair in once if listeners.count(pair[0]) == 1]


class _Rest(nn.Module):
    """What timm's norm layers do after normalizing: drop, then activate."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        out: Tensor = self.act(self.drop(x))
        return out


def _fuse_pair(network: nn.Module, convolution: str, norm: str) -> Callable[[], None]:
    """Fuse one pair; returns a function that undoes it."""
    conv = network.get_submodule(convolution)
    batch_norm = network.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(batch_norm, nn.BatchNorm2d)
    assert batch_norm.running_mean is not None
    assert batch_norm.running_var is not None
    weight, bias = conv.weight, conv.bias
    conv.weight, conv.bias = fuse_conv_bn_weights(
        weight,
        bias,
        batch_norm.running_mean,
        batch_norm.running_var,
        batch_norm.eps,
        batch_norm.weight,
        batch_norm.bias,
    )
    plain = type(batch_norm) is nn.BatchNorm2d
    network.set_submodule(norm, nn.Identity() if plain else _Rest(batch_norm))

    def undo() -> None:
        conv.weight, conv.bias = weight, bias
        network.set_submodule(norm, batch_norm)

    return undo
