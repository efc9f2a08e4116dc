"""Batches of polygons in sizes that writers like, whatever sizes they were made in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

__all__ = ["rechunked"]

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 65_536


def rechunked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches that end after _BATCH_ROWS rows or _BATCH_BYTES of geometry, at least one."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    blank: pa.RecordBatch | None = None  # what to yield when there is no row at all
    first = True
    for batch in batches:
        n, at = batch.num_rows, 0
        offsets = np.frombuffer(batch.column("geometry").buffers()[1], np.int32, n + 1)
        offsets = offsets.astype(np.int64)
        blank = batch.slice(0, 0) if first else blank
        first = False
        while at < n:
            if offsets[at + 1] - offsets[at] >= _BATCH_BYTES:
                # a huge row goes alone, uncopied
                if waiting:
                    yield _combined(waiting)
                yield batch.slice(at, 1)
                blank, waiting, rows, size, at = None, [], 0, 0, at + 1
                continue
            full = 1 + int(np.searchsorted(offsets[at + 1 :], offsets[at] + _BATCH_BYTES - size))
            full = min(full, _BATCH_ROWS - rows)
            waiting.append(batch.slice(at, full))
            if full > n - at:
                rows += n - at
                size += int(offsets[n] - offsets[at])
                break
            yield _combined(waiting)
            blank, waiting, rows, size, at = None, [], 0, 0, at + full
    if waiting or blank is not None:
        yield _combined(waiting or [blank])


def _combined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
