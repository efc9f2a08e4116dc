"""Panoptic quality, average precision, over- and under-segmentation from overlap tables.

Sources: PQ, SQ, RQ: Kirillov et al., "Panoptic Segmentation", CVPR 2019. AP: Lin et al.,
"Microsoft COCO", ECCV 2014. Boundary PQ: Cheng et al., "Boundary IoU", CVPR 2021. Over- and
under-segmentation of parcels: Persello and Bruzzone, "A novel protocol for accuracy
assessment in classification of very high resolution images", IEEE TGRS 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.assess.overlap import VOID, OverlapTable, split_key

__all__ = [
    "AveragePrecision",
    "Matches",
    "PanopticQuality",
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
        return Quality(
            float(self.iou[own].sum()), int(own.sum()), int(false.sum()), int(missed.sum())
        )


def pair_iou(
    table: OverlapTable,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(truth, found, IoU) of all pairs of segments that overlap.

    Pixels without truth don't count against what was found on them (Kirillov et al.).
    """
    truth_keys, truth_px = table.sizes("truth")
    found_keys, found_px = table.sizes("found")
    on_void = _void_pixels(table, found_keys)
    real = (table.truth >= 0) & (table.found >= 0)
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
    missed = np.setdiff1d(truth_keys[truth_keys >= 0], a)
    false = np.setdiff1d(found_keys[(found_keys >= 0) & ~ignored], b)
    return Matches(a, b, iou, missed, false)


def _lookup(table: OverlapTable, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    x, y, iou = pair_iou(table)
    known = dict(zip(zip(x.tolist(), y.tolist(), strict=True), iou.tolist(), strict=True))
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([known.get(pair, 0.0) for pair in pairs], np.float64)


@dataclass(frozen=True)
class PanopticQuality:
    """Quality of each category; the papers' PQ, SQ, RQ are means over categories."""

    per_category: Mapping[int, Quality]
    isthing: Mapping[int, bool]

    def mean(self, isthing: bool | None = None) -> tuple[float, float, float]:
        """(PQ, SQ, RQ) over all categories, things or stuff that occur; NaN for none."""
        rows = [
            (quality.pq, quality.sq, quality.rq)
            for category, quality in self.per_category.items()
            if (isthing is None or self.isthing[category] == isthing) and not np.isnan(quality.pq)
        ]
        if not rows:
            return float("nan"), float("nan"), float("nan")
        pq, sq, rq = (float(np.mean(column)) for column in zip(*rows, strict=True))
        return pq, sq, rq


def panoptic_quality(matches: Matches, isthing: Mapping[int, bool]) -> PanopticQuality:
    """PQ of the categories in ``isthing`` (id to thing or stuff)."""
    return PanopticQuality({c: matches.quality([c]) for c in isthing}, isthing)


@dataclass(frozen=True)
class AveragePrecision:
    """Mean over IoU levels 0.5 to 0.95 (``ap``), at 0.5 and at 0.75; per category and mean.

    NaN for a category without truth.
    """

    per_category: Mapping[int, tuple[float, float, float]]

    @property
    def mean(self) -> tuple[float, float, float]:
        """(AP, AP50, AP75), mean over the categories that have truth."""
        rows = [row for row in self.per_category.values() if not np.isnan(row[0])]
        if not rows:
            return float("nan"), float("nan"), float("nan")
        ap, ap50, ap75 = (float(np.mean(column)) for column in zip(*rows, strict=True))
        return ap, ap50, ap75


def average_precision(
    table: OverlapTable, scores: Mapping[int, float], categories: Sequence[int]
) -> AveragePrecision:
    """Mask AP of the things of a whole scene, as COCO's evaluation of one image without a
    limit on the number of objects.

    ``scores``: of each found segment by its key; those without one score 0. Ties are taken
    in the order of keys.
    """
    truth, found, iou = pair_iou(table)
    truth_keys = table.sizes("truth")[0]
    found_keys = table.sizes("found")[0]
    out = {}
    for category in categories:
        wanted = truth_keys[split_key(truth_keys)[0] == category]
        given = found_keys[split_key(found_keys)[0] == category]
        if not len(wanted):
            out[category] = (float("nan"),) * 3
            continue
        score = np.array([scores.get(key, 0.0) for key in given.tolist()], np.float64)
        given = given[np.argsort(-score, kind="stable")]
        own = (split_key(truth)[0] == category) & (split_key(found)[0] == category)
        pairs = _by_find(truth[own], found[own], iou[own])
        levels = [_precision(given, pairs, level, len(wanted)) for level in IOU_LEVELS]
        out[category] = (float(np.mean(levels)), levels[0], levels[5])
    return AveragePrecision(out)


def _by_find(
    truth: NDArray[np.int64], found: NDArray[np.int64], iou: NDArray[np.float64]
) -> dict[int, list[tuple[int, float]]]:
    pairs: dict[int, list[tuple[int, float]]] = {}
    for t, f, value in zip(truth.tolist(), found.tolist(), iou.tolist(), strict=True):
        if value >= IOU_LEVELS[0]:
            pairs.setdefault(f, []).append((t, value))
    return pairs


def _precision(
    ranked: NDArray[np.int64],
    pairs: Mapping[int, Sequence[tuple[int, float]]],
    level: float,
    count: int,
) -> float:
    """Area under the precision-recall curve at 101 recalls."""
    used: set[int] = set()
    hit = np.zeros(len(ranked), bool)
    for place, key in enumerate(ranked.tolist()):
        free = [(v, t) for t, v in pairs.get(key, ()) if v >= level and t not in used]
        if free:
            used.add(max(free)[1])
            hit[place] = True
    right = np.cumsum(hit)
    recall = right / count
    precision = right / np.arange(1, len(hit) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALL_LEVELS, side="left")
    return float(np.concatenate([precision, [0.0]])[np.minimum(at, len(precision))].mean())


def over_under_segmentation(table: OverlapTable, categories: Sequence[int]) -> dict[str, float]:
    """``over``, ``under`` and their ``total`` (root mean square), area-blind means over objects.

    Each object of the truth is held against the found one that covers most of it: ``over``
    is the share of the object that it misses, ``under`` the share of it that lies elsewhere
    (Persello and Bruzzone 2010). An object that nothing covers counts 1 for both.
    """
    keys, size = table.sizes("truth")
    own = np.isin(split_key(keys)[0], list(categories))
    keys, size = keys[own], size[own]
    if not len(keys):
        return dict.fromkeys(("over", "under", "total"), float("nan"))
    found_keys, found_px = table.sizes("found")
    real = np.isin(table.truth, keys) & (table.found >= 0)
    truth, found, shared = table.truth[real], table.found[real], table.pixels[real]
    order = np.lexsort((-found, shared, truth))
    last = np.flatnonzero(np.diff(np.concatenate([truth[order], [np.iinfo(np.int64).max]])) != 0)
    best = order[last]
    over, under = np.ones(len(keys)), np.ones(len(keys))
    place = np.searchsorted(keys, truth[best])
    over[place] = 1 - shared[best] / size[place]
    under[place] = 1 - shared[best] / found_px[np.searchsorted(found_keys, found[best])]
    total = np.sqrt((over**2 + under**2) / 2)
    return {"over": float(over.mean()), "under": float(under.mean()), "total": float(total.mean())}
