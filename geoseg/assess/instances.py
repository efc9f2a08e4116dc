"""Panoptic quality, average precision, over- and under-segmentation from overlap tables.

Sources: PQ, SQ, RQ: Kirillov et al., "Panoptic Segmentation", CVPR 2019. AP: Lin et al.,
"Microsoft COCO", ECCV 2014. Boundary PQ: Cheng et al., "Boundary IoU", CVPR 2021. Over- and
under-segmentation of parcels: Persello and Bruzzone, "A novel protocol for accuracy
assessment in classification of very high resolution images", IEEE TGRS 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg.assess.overlap import VOID, OverlapTable, split_key

__all__ = [
    "AveragePrecision",
    "Matches",
    "Quality",
    "average_precision",
    "match_segments",
    "over_under_segmentation",
    "panoptic_quality",
]

IOU_LEVELS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
RECALL_LEVELS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Quality:
    """``sq`` mean IoU of the matches, ``rq`` F1 of finding; ``pq`` is their product.

    With neither a segment in the truth nor a false find there is nothing to judge: NaN.
    """

    iou_sum: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def sq(self) -> float:
        """Segmentation quality."""
        return self.iou_sum / self.tp if self.tp else (0.0 if self.fp + self.fn else np.nan)

    @property
    def rq(self) -> float:
        """Recognition quality."""
        whole = self.tp + 0.5 * self.fp + 0.5 * self.fn
        return self.tp / whole if whole else np.nan

    @property
    def pq(self) -> float:
        """Panoptic quality."""
        return self.sq * self.rq


@dataclass(frozen=True)
class Matches:
    """Which segments of the truth were found.

    ``truth``, ``found`` and ``iou`` of the matched pairs; keys of ``missed`` segments of the
    truth and of ``false`` finds.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    iou: NDArray[np.float64]
    missed: NDArray[np.int64]
    false: NDArray[np.int64]

    def quality(self, categories: Sequence[int] | None = None) -> Quality:
        """Quality over all segments, or over those of some categories."""

        def inside(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
            if categories is None:
                return np.ones(len(keys), bool)
            return np.isin(split_key(keys)[0], list(categories))

        own = inside(self.truth)
        missed, false = inside(self.missed), inside(self.false)
        return Quality(float(self.iou[own].sum()), int(own.sum()), int(false.sum()), int(missed.sum()))


def pair_iou(
    table: OverlapTable,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(truth, found, IoU) of all pairs of segments that overlap.

    Pixels without truth don't count against what was found on them (Kirillov et al.).
    """
    truth_keys, truth_px = table.sizes("truth")
    found_keys, found_px = table.sizes("found")
    on_void = _void_pixels(table, found_keys)
    real = (table.truth != VOID) & (table.found != VOID)
    a, b, shared = table.truth[real], table.found[real], table.pixels[real]
    size_a = truth_px[np.searchsorted(truth_keys, a)]
    place = np.searchsorted(found_keys, b)
    union = size_a + (found_px - on_void)[place] - shared
    return a, b, shared / union


def _void_pixels(table: OverlapTable, found_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each found segment that have no truth."""
    out = np.zeros(len(found_keys), np.int64)
    void = table.truth == VOID
    out[np.searchsorted(found_keys, table.found[void])] = table.pixels[void]
    return out


def match_segments(table: OverlapTable, boundary: OverlapTable | None = None) -> Matches:
    """Pairs of one category with IoU above 0.5: at most one per segment, by arithmetic.

    With ``boundary``, the table of the pixels near outlines, IoU is the smaller of mask and
    boundary IoU (Boundary PQ). A find that lies mostly where there is no truth is no false
    find.
    """
    a, b, iou = pair_iou(table)
    if boundary is not None:
        iou = np.minimum(iou, _lookup(boundary, a, b))
    same = (split_key(a)[0] == split_key(b)[0]) & (iou > 0.5)
    a, b, iou = a[same], b[same], iou[same]
    truth_keys, _ = table.sizes("truth")
    found_keys, found_px = table.sizes("found")
    ignored = 2 * _void_pixels(table, found_keys) > found_px
    missed = np.setdiff1d(truth_keys[truth_keys != VOID], a)
    false = np.setdiff1d(found_keys[(found_keys != VOID) & ~ignored], b)
    return Matches(a, b, iou, missed, false)


def _lookup(
    table: OverlapTable, a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    x, y, iou = pair_iou(table)
    known = {pair: value for *pair, value in ()}  # type: ignore[misc, var-annotated]
    known = dict(zip(zip(x.tolist(), y.tolist(), strict=True), iou.tolist(), strict=True))
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([known.get(pair, 0.0) for pair in pairs], np.float64)


def panoptic_quality(
    matches: Matches, categories: Mapping[int, bool]
) -> dict[str, Quality | dict[int, Quality]]:
    """Qualities ``per_category``, and of ``all``, ``things`` and ``stuff`` segments pooled.

    ``categories``: id to isthing. The papers' PQ is the mean over categories: ``mean_pq``.
    """
    things = [c for c, isthing in categories.items() if isthing]
    stuff = [c for c, isthing in categories.items() if not isthing]
    return {
        "per_category": {c: matches.quality([c]) for c in categories},
        "all": matches.quality(list(categories)),
        "things": matches.quality(things),
        "stuff": matches.quality(stuff),
    }
