"""A map held against the truth, window by window: what adds up, and the report made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.assess.instances import (
    Matches,
    PanopticQuality,
    Quality,
    average_precision,
    match_segments,
    over_under_segmentation,
    panoptic_quality,
)
from geoseg.assess.overlap import BACKGROUND, VOID, OverlapTable, segment_key, split_key
from geoseg.assess.segmentation import Confusion, bootstrap, boundary_band
from geoseg.grid import Window
from geoseg.legend import NODATA_CATEGORY, Legend

__all__ = ["NOTHING", "Evaluation", "Labels"]

NOTHING = 254
"""Stands for "nothing is there" in the confusion where the truth is exhaustive."""

OUTSIDE = -9
"""A key that occurs nowhere: what lies beyond the scene's edge."""


@dataclass(frozen=True)
class Labels:
    """Labels of a window: ``category_id`` uint8, ``instance_id`` (0: none), and ``score``
    levels of 254 (255: none) or None; each (row, col).
    """

    category_id: NDArray[np.uint8]
    instance_id: NDArray[Any]
    score: NDArray[np.uint8] | None = None


@dataclass
class Evaluation:
    """Adds windows up, in any order.

    Attributes:
        legend: categories of both sides.
        exhaustive: where the truth has no label there is nothing; else nobody looked there.
        boundary_px: width of the boundaries that boundary metrics look at; 0: none.
        side_px: of the windows that are added, for the report; 0: not known.

    """

    legend: Legend
    exhaustive: bool = False
    boundary_px: int = 0
    side_px: int = 0
    confusions: list[Confusion] = field(default_factory=list)
    table: OverlapTable = field(default_factory=OverlapTable.empty)
    near: OverlapTable = field(default_factory=OverlapTable.empty)
    rims: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 2), np.int64))
    _scores: dict[int, tuple[int, int]] = field(default_factory=dict)
    _homes: dict[str, dict[int, tuple[int, int]]] = field(
        default_factory=lambda: {"truth": {}, "found": {}}
    )

    def keys(self, truth: Labels, found: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The segments of both sides, one key per pixel."""
        none = BACKGROUND if self.exhaustive else VOID
        return (
            segment_key(truth.category_id, truth.instance_id, none=none),
            segment_key(found.category_id, found.instance_id, none=BACKGROUND),
        )

    def add(self, truth: Labels, found: Labels, inner: Window, edges: Window) -> None:
        """One window. ``inner``: the part of the arrays that counts, once each; around it up
        to ``boundary_px`` more are needed for the boundaries. ``edges``: the whole scene, from
        the arrays' origin.
        """
        cut = inner.slices
        whole = [labels.category_id for labels in (truth, found)]
        if self.exhaustive:
            whole = [np.where(ids == NODATA_CATEGORY, np.uint8(NOTHING), ids) for ids in whole]
        self.confusions.append(Confusion.of(*(ids[cut] for ids in whole)))
        keys = self.keys(truth, found)
        part = OverlapTable.of(keys[0][cut], keys[1][cut])
        self.table = self.table + part
        self._find_homes(part)
        if self.boundary_px:
            near_truth, near_found = (self._near(key, edges)[cut] for key in keys)
            self.near = self.near + OverlapTable.of(near_truth, near_found)
            self._add_rims(whole[0], whole[1], inner, edges)
        if found.score is not None:
            self._add_scores(keys[1][cut], found.score[cut])

    def _near(self, key: NDArray[np.int64], edges: Window) -> NDArray[np.int64]:
        """Keys of the pixels near boundaries; the others belong to nothing."""
        rim = self.boundary_px
        band = boundary_band(self._padded(key, edges), rim)[rim:-rim, rim:-rim]
        return np.where(band | (key == VOID), key, BACKGROUND)

    def _padded(self, values: NDArray[Any], edges: Window) -> NDArray[np.int64]:
        """With ``boundary_px`` more on each side, and OUTSIDE beyond the scene's edge."""
        rim = self.boundary_px
        padded = np.pad(values.astype(np.int64), rim, mode="edge")
        rows, cols = edges.slices
        padded[: max(rows.start + rim, 0)] = OUTSIDE
        padded[max(rows.stop + rim, 0) :] = OUTSIDE
        padded[:, : max(cols.start + rim, 0)] = OUTSIDE
        padded[:, max(cols.stop + rim, 0) :] = OUTSIDE
        return padded

    def _add_rims(
        self, truth: NDArray[np.uint8], found: NDArray[np.uint8], inner: Window, edges: Window
    ) -> None:
        """Intersection and union of both sides' boundaries of each category, where judged."""
        rim, cut = self.boundary_px, inner.slices
        judged = truth[cut] != NODATA_CATEGORY
        padded = [self._padded(ids, edges) for ids in (truth, found)]
        for k in np.union1d(truth[cut], found[cut]).tolist():
            if k == NODATA_CATEGORY:
                continue
            masks = [ids == k for ids in padded]
            one, other = (
                (mask & boundary_band(mask, rim))[rim:-rim, rim:-rim][cut] & judged
                for mask in masks
            )
            self.rims[k] += (int((one & other).sum()), int((one | other).sum()))

    def _find_homes(self, part: OverlapTable) -> None:
        """The window where most pixels of a segment lie (ties: the first) counts it."""
        number = len(self.confusions) - 1
        for side, homes in self._homes.items():
            for key, pixels in zip(*(a.tolist() for a in part.sizes(side)), strict=True):
                if key >= 0 and pixels > homes.get(key, (0, 0))[0]:
                    homes[key] = (pixels, number)

    def _add_scores(self, key: NDArray[np.int64], score: NDArray[np.uint8]) -> None:
        scored = score != 255
        keys, inverse = np.unique(key[scored], return_inverse=True)
        levels, pixels = np.zeros(len(keys), np.int64), np.bincount(inverse, minlength=len(keys))
        np.add.at(levels, inverse, score[scored].astype(np.int64))
        for k, level, count in zip(keys.tolist(), levels.tolist(), pixels.tolist(), strict=True):
            before = self._scores.get(k, (0, 0))
            self._scores[k] = (before[0] + level, before[1] + count)

    @property
    def scores(self) -> dict[int, float]:
        """Mean score of each found segment, 0 to 1."""
        return {key: total / (254 * n) for key, (total, n) in self._scores.items()}

    def matches(self) -> Matches:
        """Matched, missed and false segments by mask IoU."""
        return match_segments(self.table)

    def quality_parts(self) -> NDArray[np.float64]:
        """(window, category, 4): IoU sum, hits, false finds, misses of the segments at home in
        each window, categories in the legend's order; their sum is that of the whole.
        """
        matches = self.matches()
        place = np.full(256, -1)
        place[[c.id for c in self.legend]] = np.arange(len(self.legend))
        out = np.zeros((len(self.confusions), len(self.legend), 4))
        counted = (
            ("truth", matches.truth, 0, matches.iou),
            ("truth", matches.truth, 1, np.ones(len(matches.truth))),
            ("found", matches.false, 2, np.ones(len(matches.false))),
            ("truth", matches.missed, 3, np.ones(len(matches.missed))),
        )
        for side, keys, column, amount in counted:
            window = np.array([self._homes[side][k][1] for k in keys.tolist()], np.int64)
            row = place[split_key(keys)[0]]
            known = row >= 0
            np.add.at(out[:, :, column], (window[known], row[known]), amount[known])
        return out

    def report(self) -> dict[str, Any]:
        """All metrics as JSON values; NaN becomes None."""
        whole = Confusion.empty()
        for part in self.confusions:
            whole = whole + part
        isthing = {c.id: c.isthing for c in self.legend}
        out = {
            "pixels": whole.pixels,
            "semantic": whole.summary(),
            "per_category": {
                self._name(k): {
                    "iou": whole.iou(k),
                    "f1": whole.f1(k),
                    "precision": whole.precision(k),
                    "recall": whole.recall(k),
                }
                | self._boundary(k)
                for k in whole.categories
            },
        }
        if self.boundary_px:
            out["boundary_px"] = self.boundary_px
        if len(self.confusions) >= 10:
            out |= self._intervals(whole.categories)
        if any(isthing.values()):
            out |= self._things(isthing)
        plain: dict[str, Any] = _plain(out)
        return plain

    def _boundary(self, category: int) -> dict[str, float]:
        """Boundary IoU of a category, where it was asked for."""
        if not self.boundary_px:
            return {}
        both, either = self.rims[category].tolist()
        return {"boundary_iou": both / either if either else float("nan")}

    def _intervals(self, categories: Sequence[int]) -> dict[str, Any]:
        """Of the whole's figures and of each category's IoU; the windows are the blocks."""

        def figures(total: Confusion) -> dict[str, float]:
            return total.summary() | {str(k): total.iou(k) for k in categories}

        limits = {k: list(v) for k, v in bootstrap(self.confusions, figures, draws=200).items()}
        out: dict[str, Any] = {
            "iou_95_percent": {self._name(k): limits.pop(str(k)) for k in categories},
            "semantic_95_percent": limits,
        }
        if self.side_px:
            out["blocks"] = {"count": len(self.confusions), "side_px": self.side_px}
        return out

    def _things(self, isthing: Mapping[int, bool]) -> dict[str, Any]:
        things = [category for category, thing in isthing.items() if thing]
        matches = self.matches()
        quality = panoptic_quality(matches, isthing)
        out: dict[str, Any] = {
            "panoptic": {
                name: dict(zip(("pq", "sq", "rq"), quality.mean(kind), strict=True))
                for name, kind in (("all", None), ("things", True), ("stuff", False))
            },
            "objects": {
                self._name(k): {
                    "pq": q.pq,
                    "sq": q.sq,
                    "rq": q.rq,
                    "tp": q.tp,
                    "fp": q.fp,
                    "fn": q.fn,
                }
                for k, q in quality.per_category.items()
            },
            "segmentation": over_under_segmentation(self.table, things),
        }
        if len(self.confusions) >= 10:
            limits = bootstrap(list(self.quality_parts()), self._drawn, draws=200)
            out["panoptic_95_percent"] = {name: list(pair) for name, pair in limits.items()}
        if self._scores:
            precision = average_precision(self.table, self.scores, things)
            out["average_precision"] = dict(
                zip(("ap", "ap50", "ap75"), precision.mean, strict=True)
            )
        if self.boundary_px:
            boundary = panoptic_quality(match_segments(self.table, self.near), isthing)
            values = dict(zip(("pq", "sq", "rq"), boundary.mean(), strict=True))
            out["boundary_panoptic"] = values | {"boundary_px": self.boundary_px}
        return out

    def _drawn(self, total: NDArray[np.float64]) -> dict[str, float]:
        """PQ, SQ, RQ of windows drawn: ``total`` (category, 4)."""
        isthing = {c.id: c.isthing for c in self.legend}
        each = {
            c.id: Quality(float(row[0]), *(int(n) for n in row[1:]))
            for c, row in zip(self.legend, total, strict=True)
        }
        return dict(zip(("pq", "sq", "rq"), PanopticQuality(each, isthing).mean(), strict=True))

    def _name(self, category: int) -> str:
        return "(nothing)" if category == NOTHING else self.legend.by_id(category).name


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value
