"""Batches through a device with uploads, computing and downloads overlapped.

On CUDA three streams and pinned buffers; anywhere else the same code with one step after
the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.semantic import to_tiles
from geoseg.models.segmenter import ModelCard, TileResult

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

    def __enter__(self) -> _Lane:
        context: AbstractContextManager[Any] = (
            nullcontext() if self.stream is None else torch.cuda.stream(self.stream)
        )
        self._context = context
        context.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

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


def predict_batches(
    segmenter: SemanticSegmenter, batches: Iterable[Batch]
) -> Iterator[list[TileResult]]:
    """One list of labels per batch, in order, the same as ``segmenter.predict`` gives."""
    if segmenter.with_probs:
        yield from (segmenter.predict(pixels, valid) for pixels, valid in batches)
        return
    device = segmenter.runtime.device
    up, work, down = _Lane(device), _Lane(device), _Lane(device)
    waiting: deque[tuple[Tensor, Any]] = deque()
    how = segmenter.card.normalization
    for pixels, valid in batches:
        with torch.inference_mode():
            with up:
                x = to_inputs(pixels, valid, how, device)
            with work:
                work.after(up)
                work.keep(x)
                layers = torch.stack(segmenter.labels_of(x))
            with down:
                down.after(work)
                down.keep(layers)
                host = torch.empty(
                    layers.shape, dtype=layers.dtype, pin_memory=up.stream is not None
                )
                host.copy_(layers, non_blocking=True)
                waiting.append((host, down.event()))
        if len(waiting) > DEPTH:
            yield _collect(*waiting.popleft(), segmenter.card)
    while waiting:
        yield _collect(*waiting.popleft(), segmenter.card)


def _collect(host: Tensor, done: Any, card: ModelCard) -> list[TileResult]:
    if done is not None:
        done.synchronize()
    return to_tiles(host.numpy(), card)
