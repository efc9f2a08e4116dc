"""Batches through a device with uploads, computing and downloads overlapped.

On CUDA three streams and pinned buffers; anywhere else the same code with one step after
the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.models.deep.blending import to_levels
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.semantic import to_tiles
from geoseg.models.segmenter import HeldTile, TileResult

if TYPE_CHECKING:
    from geoseg.models.deep.semantic import SemanticSegmenter

__all__ = ["predict_batches"]

DEPTH = 2
"""Batches under way: one is computed while the next is uploaded and the last downloaded."""

Batch = tuple[NDArray[Any], NDArray[np.bool_]]


class _Lane:
    """A CUDA stream, or nothing where there is none."""

    def __init__(self, device: str) -> None:
        self.stream = torch.cuda.Stream(device) if device.startswith("cuda") else None

    def on(self) -> AbstractContextManager[Any]:
        """What is queued inside goes to this lane."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def after(self, other: _Lane) -> None:
        """Wait, on the device, for all that was queued on another lane."""
        if self.stream is not None and other.stream is not None:
            self.stream.wait_stream(other.stream)

    def event(self) -> Any:
        """Something to wait for on the host; None where everything is done already."""
        if self.stream is None:
            return None
        event = torch.cuda.Event()
        event.record(self.stream)
        return event

    def keep(self, tensor: Tensor) -> None:
        """The tensor is used on this lane: its memory may not be reused before."""
        if self.stream is not None:
            tensor.record_stream(self.stream)


@lru_cache(maxsize=8)
def _lanes(device: str) -> tuple[_Lane, _Lane, _Lane]:
    """For uploads, work and downloads of a process. Always the same: the allocator keeps the
    memory of each stream apart, so that new ones would begin with none of it.
    """
    return _Lane(device), _Lane(device), _Lane(device)


def predict_batches(
    segmenter: SemanticSegmenter, batches: Iterable[Batch]
) -> Iterator[list[TileResult]]:
    """One list of results per batch, in order, the same as ``segmenter.predict`` gives."""
    if segmenter.with_probs and not segmenter.held:
        yield from (segmenter.predict(pixels, valid) for pixels, valid in batches)
        return
    device = segmenter.runtime.device
    up, work, down = _lanes(device)
    waiting: deque[tuple[Tensor, Any]] = deque()
    how = segmenter.card.normalization
    for pixels, valid in batches:
        with torch.inference_mode():
            with up.on():
                x = to_inputs(pixels, valid, how, device)
            with work.on():
                work.after(up)
                work.keep(x)
                found = _work(segmenter, x)
            with down.on():
                down.after(work)
                if not segmenter.held:
                    down.keep(found)
                    found = _download(found, pinned=down.stream is not None)
                waiting.append((found, down.event()))
        if len(waiting) > DEPTH:
            yield _collect(*waiting.popleft(), segmenter)
    while waiting:
        yield _collect(*waiting.popleft(), segmenter)


def _work(segmenter: SemanticSegmenter, x: Tensor) -> Tensor:
    """uint8 layers (tile, layer, row, col), or probabilities as whole numbers that stay."""
    return to_levels(segmenter.probabilities_of(x)) if segmenter.held else segmenter.labels_of(x)


def _download(found: Tensor, *, pinned: bool) -> Tensor:
    host = torch.empty(found.shape, dtype=found.dtype, pin_memory=pinned)
    return host.copy_(found, non_blocking=True)


def _collect(found: Tensor, done: Any, segmenter: SemanticSegmenter) -> list[TileResult]:
    if done is not None:
        done.synchronize()
    if not segmenter.held:
        return to_tiles(found.numpy(), segmenter.card)
    if done is not None:
        # whoever blends them works on the stream of this thread
        found.record_stream(torch.cuda.current_stream(found.device))
    return [HeldTile(levels) for levels in found]
