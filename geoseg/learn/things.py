"""What a network that tells things apart knows of places it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoseg.assess.instances import match_segments, panoptic_quality
from geoseg.assess.overlap import BACKGROUND, VOID, OverlapTable, segment_key
from geoseg.assess.segmentation import Confusion
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.learn.validate import Place, Validation, labelled_squares, predict
from geoseg.models.segmenter import InstanceTile
from geoseg.radiometry import Normalization

__all__ = ["Decode", "ThingValidation", "Things"]

Decode = Callable[[Tensor, NDArray[np.bool_]], InstanceTile]
"""Logits (output, row, col) and valid (row, col) to the things of a whole ground."""

_GROUND = 1 << 32
"""Numbers of things are this far apart from ground to ground."""


@dataclass(frozen=True, kw_only=True)
class Things:
    """How labels and finds are read.

    ``classes`` by position of their label; ``isthing`` each; ``nothing``: position of the class
    that means that nothing is there, which no map shows, or None where all are mapped.
    """

    classes: tuple[str, ...]
    isthing: tuple[bool, ...]
    nothing: int | None
    decode: Decode

    def keys(
        self, labels: NDArray[np.uint8], instance_id: NDArray[np.int32], number: int
    ) -> NDArray[np.int64]:
        """Segments of ground ``number``: one key per pixel, VOID where nobody looked."""
        things = np.zeros(256, bool)
        things[: len(self.isthing)] = self.isthing
        ids = np.where(things[labels], instance_id.astype(np.int64) + number * _GROUND, 0)
        keys: NDArray[np.int64] = segment_key(labels, ids, none=VOID)
        return keys if self.nothing is None else np.where(labels == self.nothing, BACKGROUND, keys)


class ThingValidation(Validation):
    """Predicts squares that hold labels, and decodes each ground as a whole.

    A thing at the edge of the labelled ground is judged by what lies on it.
    """

    def __init__(
        self,
        grounds: Sequence[Labelled],
        things: Things,
        normalization: Normalization,
        halo: int,
        core_px: int = 256,
    ) -> None:
        super().__init__(grounds, things.classes, normalization, halo, core_px)
        self.things = things

    def figures(self, places: Sequence[Place]) -> dict[str, float]:
        """PQ (Kirillov et al. 2019) and object F1 at IoU 0.5 of things, then those of classes."""
        pairs = sum((place.pairs for place in places), OverlapTable.empty())
        isthing = dict(enumerate(self.things.isthing))
        if self.things.nothing is not None:
            del isthing[self.things.nothing]
        quality = panoptic_quality(match_segments(pairs), isthing)
        pq, _, rq = quality.mean(isthing=True)
        out = {"PQ": pq, "F1": rq}
        if not all(isthing.values()):
            out["PQ all"] = quality.mean()[0]
        if len(isthing) > 1:
            each = quality.per_category.items()
            out |= {f"PQ {self.classes[k]}": value.pq for k, value in each}
        return out | super().figures(places)

    @torch.inference_mode()
    def places(self, network: nn.Module) -> list[Place]:
        """Every square with labels."""
        numbered = [(k, g) for k, g in enumerate(self.grounds) if (g.labels != IGNORE).any()]
        return [place for k, ground in numbered for place in self._of(network, ground, k)]

    def _of(self, network: nn.Module, ground: Labelled, number: int) -> list[Place]:
        logits, seen = self.outputs(network, ground)
        return self.judged(ground, number, self.things.decode(logits, seen))

    @torch.inference_mode()
    def outputs(self, network: nn.Module, ground: Labelled) -> tuple[Tensor, NDArray[np.bool_]]:
        """Logits (output, row, col) of a ground, and (row, col) where they were asked for."""
        seen = np.zeros(ground.labels.shape, bool)
        logits = torch.zeros(0)
        for square in labelled_squares(ground, self.core_px):
            part = predict(network, ground, square, self.halo, self.normalization)
            if not len(logits):
                logits = part.new_zeros((len(part), *seen.shape))
            logits[:, square.slices[0], square.slices[1]] = part
            seen[square.slices] = True
        return logits, seen & ground.valid

    def judged(self, ground: Labelled, number: int, tile: InstanceTile) -> list[Place]:
        """Squares of ground ``number`` with what was found on them."""
        found = tile.category_id
        if self.things.nothing is not None:
            found = np.where(found == IGNORE, np.uint8(self.things.nothing), found)
        assert ground.instance_id is not None
        truth_keys = self.things.keys(ground.labels, ground.instance_id, number)
        found_keys = self.things.keys(found, tile.instance_id, number)
        # what isn't mapped is no segment, but not unknown either
        found_keys[found_keys == VOID] = BACKGROUND
        places = []
        for square in labelled_squares(ground, self.core_px):
            at = square.slices
            confusion = Confusion.of(ground.labels[at], found[at])
            pairs = OverlapTable.of(truth_keys[at], found_keys[at])
            corner = square.row_off, square.col_off
            ids = tile.instance_id[at]
            places.append(Place(ground, *corner, found[at], confusion, ids, pairs))
        return places
