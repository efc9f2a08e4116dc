"""What ``--model`` accepts: names to segmenters. Cheap to import; torch is loaded on use."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from geoseg.errors import ModelError
from geoseg.models.fit import choose_bands, match_bands
from geoseg.models.segmenter import Fittable, ModelCard, Segmenter

__all__ = ["BUNDLED", "bundled_cards", "card_of", "choose_bands", "load_model", "match_bands"]

BUNDLED = ("terrain",)
"""Models that come with geoseg, by name; each has a folder in ``geoseg/data``."""


def bundled_cards() -> list[ModelCard]:
    """Cards of the models that come with geoseg; no weights are read."""
    return [card for name in BUNDLED if (card := card_of(name)) is not None]


def card_of(name: str | Path) -> ModelCard | None:
    """The card of a model that comes with geoseg, without loading it; None for others."""
    if str(name) not in BUNDLED:
        return None
    text = (resources.files("geoseg") / "data" / str(name) / "model.json").read_text()
    return ModelCard.from_dict(json.loads(text))


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
