"""What ``--model`` accepts: names to segmenters. Cheap to import; torch is loaded on use."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from geoseg.errors import ModelError
from geoseg.models.fit import choose_bands, match_bands
from geoseg.models.segmenter import Fittable, ModelCard, Segmenter

__all__ = ["BUNDLED", "bundled_cards", "choose_bands", "load_model", "match_bands"]

BUNDLED = ("terrain",)
"""Models that come with geoseg, by name; each has a folder in ``geoseg/data``."""


def bundled_cards() -> list[ModelCard]:
    """Cards of the models that come with geoseg; no weights are read."""
    folder = resources.files("geoseg") / "data"
    texts = [(folder / name / "model.json").read_text() for name in BUNDLED]
    return [ModelCard.from_dict(json.loads(text)) for text in texts]


def load_model(name: str | Path) -> Segmenter | Fittable:
    """A model by name (``terrain``, ``otsu:ndvi``) or file; raises ModelError."""
    text = str(name)
    if text == "terrain":
        from geoseg.models.deep.terrain import load_terrain

        return load_terrain()
    from geoseg.models import classic

    method = text.partition(":")[0]
    if method in classic.METHODS:
        return classic.parse(text)
    known = ", ".join([*BUNDLED, *classic.METHODS])
    raise ModelError(f"no model {text!r}: use one of {known}; 'geoseg models' describes them")
