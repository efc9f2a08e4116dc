"""The eight symmetries of a square, for test-time augmentation."""

from __future__ import annotations

from torch import Tensor

__all__ = ["SYMMETRIES", "apply", "undo"]

SYMMETRIES = ("", "x", "y", "xy", "t", "tx", "ty", "txy")
"""The first 1, 2, 4 or 8 are used. t: rows and columns swapped, then x, y: mirrored."""


def _flips(name: str) -> list[int]:
    return [-1] * ("x" in name) + [-2] * ("y" in name)


def apply(x: Tensor, name: str) -> Tensor:
    """(..., row, col) turned; tiles are square where rows and columns are swapped."""
    if "t" in name:
        x = x.transpose(-1, -2)
    return x.flip(_flips(name)) if _flips(name) else x


def undo(x: Tensor, name: str) -> Tensor:
    """What ``apply`` did, taken back."""
    if _flips(name):
        x = x.flip(_flips(name))
    return x.transpose(-1, -2) if "t" in name else x
