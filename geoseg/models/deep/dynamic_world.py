"""The Dynamic World land-cover network (Brown et al. 2022), 225,513 parameters.

Written from the paper's diagram: a stem at full resolution, a body of residual separable
convolutions at half resolution beside a shallow path of the same resolution, brought
together, upsampled, normalized per pixel and classified by a 1 x 1 convolution.

Brown, C. F. et al. (2022). Dynamic World, Near real-time global 10 m land use land cover
mapping. Scientific Data 9, 251. https://doi.org/10.1038/s41597-022-01307-4
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DynamicWorldNet"]


def _unit(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, Mish."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.Mish(),
    )


class _Residual(nn.Module):
    """Three pairs of pointwise and depthwise units beside a pointwise one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        units = [_unit(inputs, outputs), _unit(outputs, outputs, 3, outputs)]
        for _ in range(2):
            units += [_unit(outputs, outputs), _unit(outputs, outputs, 3, outputs)]
        self.body = nn.Sequential(*units)
        self.skip = _unit(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x) + self.skip(x)
        return added


class DynamicWorldNet(nn.Module):
    """(tile, 9, row, col) float32 from ``log_sigmoid`` normalization to 9 logits.

    Rows and columns are even. Keep it in fp32: its antialiased interpolation has no bf16
    kernel, and elsewhere bf16 moves 0.19 % of its labels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(9, 64, 3)
        self.b1, self.b2 = _Residual(64, 96), _Residual(96, 144)
        self.low = nn.Sequential(_unit(64, 48), _unit(48, 48, 3, 48))
        self.b3 = _Residual(192, 144)
        self.head = nn.Conv2d(144, 9, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(tile, 9, row, col) to logits (tile, 9, row, col)."""
        rows, cols = x.shape[-2:]
        half = functional.interpolate(
            self.stem(x), size=(rows // 2, cols // 2), mode="bilinear", antialias=True
        )  # (tile, 64, row / 2, col / 2)
        deep = self.b2(self.b1(half))
        joined = self.b3(torch.cat([deep, self.low(half)], dim=1))
        full = functional.interpolate(
            joined, size=(rows, cols), mode="bilinear", align_corners=False
        )  # (tile, 144, row, col)
        length = full.square().sum(dim=1, keepdim=True).clamp_min(1e-12)
        logits: Tensor = self.head(full * torch.rsqrt(length))
        return logits
