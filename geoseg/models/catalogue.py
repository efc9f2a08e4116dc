"""What ``--model`` accepts: names and files to segmenters. Cheap to import: torch is loaded
when a network is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from geoseg.errors import ModelError
from geoseg.models.fit import choose_bands, match_bands
from geoseg.models.names import check_parameter_names
from geoseg.models.segmenter import Fittable, ModelCard, Segmenter

__all__ = [
    "BUNDLED",
    "bundled_cards",
    "card_of",
    "choose_bands",
    "load_model",
    "match_bands",
    "parse_parameters",
]

BUNDLED = ("terrain", "weeds", "fields")
"""Models that come with geoseg, by name; each is a bundle in ``geoseg/data``."""

LOADERS: Mapping[str, str] = {
    # architecture of a bundle: what makes its segmenter; semantic ones need no entry
    "parcels": "geoseg.models.deep.oneshot:load_oneshot",
    "centers": "geoseg.models.deep.oneshot:load_oneshot",
    "panoptic_deeplab": "geoseg.models.deep.oneshot:load_oneshot",
    "mask_rcnn": "geoseg.models.deep.detections:load_detector",
    "panoptic_fpn": "geoseg.models.deep.detections:load_detector",
    "mask2former": "geoseg.models.deep.detections:load_detector",
    "maskformer": "geoseg.models.deep.detections:load_detector",
}

REFUSED = {
    ".pkl": "a pickle can run any code: save the weights as .safetensors",
    ".pickle": "a pickle can run any code: save the weights as .safetensors",
    ".joblib": "a pickle can run any code: save the weights as .safetensors",
    ".pt2": "an exported program is not loaded: make a bundle of its weights with "
    "'geoseg bundle make'",
}


def card_of(name: str | Path) -> ModelCard | None:
    """The card of a model that comes with geoseg, without loading it; None for others."""
    if str(name) not in BUNDLED:
        return None
    item = json.loads((resources.files("geoseg") / "data" / str(name) / "model.json").read_text())
    return ModelCard.from_dict(item["geoseg"]["card"])


def bundled_cards() -> list[ModelCard]:
    """Cards of the models that come with geoseg; no weights are read."""
    return [card for name in BUNDLED if (card := card_of(name)) is not None]


def load_model(
    name: str | Path, parameters: Mapping[str, Any] | None = None
) -> Segmenter | Fittable:
    """A model by name or file.

    ``terrain`` and the other models inside; a classic method such as ``otsu:ndvi``; a bundle
    (folder or zip); an ``.onnx`` file; a folder of segmentation-models-pytorch's
    ``save_pretrained``, or one of the hub as ``hub:owner/name``. Several semantic models
    separated by ``+`` are averaged; an instance and a semantic one are fused, things on top.
    ``parameters`` are those of the model: level and offset of ``terrain``; symmetries,
    score, layers, thresholds, temperature and legend of
    any semantic network. Raises ModelError.
    """
    text = str(name)
    # a formula of a classic method may hold a plus: otsu:(b8-b4)/(b8+b4)
    if "+" in text and ":" not in text and not Path(text).exists():
        return _together(text.split("+"), parameters)
    card = card_of(name)
    if parameters and card is not None:
        check_parameter_names(card, parameters)
    segmenter = _load(text)
    if not parameters:
        return segmenter
    if not hasattr(segmenter, "with_parameters"):
        raise ModelError(f"{text}: it has no parameters to set ({', '.join(parameters)})")
    adapted: Segmenter = segmenter.with_parameters(**parameters)
    return adapted


def _together(names: Sequence[str], parameters: Mapping[str, Any] | None) -> Segmenter | Fittable:
    from geoseg.models.deep.ensemble import ensemble
    from geoseg.models.deep.pair import pair_up

    members = [load_model(name) for name in names]
    if any(member.card.task != "semantic" for member in members):
        return pair_up(members, parameters)
    return ensemble([load_model(name, parameters) for name in names] if parameters else members)


def _load(text: str) -> Segmenter | Fittable:
    from geoseg.models import classic

    method = text.partition(":")[0]
    if text == "terrain":
        from geoseg.models.deep.terrain import load_terrain

        return load_terrain()
    if text in BUNDLED:
        return _load_path(Path(str(resources.files("geoseg") / "data" / text)))
    if method in classic.METHODS:
        return classic.parse(text)
    if method == "hub":
        from geoseg.models.deep.foreign import load_hub

        return load_hub(text.removeprefix("hub:"))
    path = Path(text)
    if path.exists():
        return _load_path(path)
    known = ", ".join([*BUNDLED, *classic.METHODS])
    raise ModelError(
        f"no model {text!r}: give a file, or one of {known}; 'geoseg models' describes them"
    )


def _load_path(path: Path) -> Segmenter | Fittable:
    """A model on disk, by what it is rather than by its name."""
    if path.suffix.lower() in REFUSED:
        raise ModelError(f"{path}: refused: {REFUSED[path.suffix.lower()]}")
    from geoseg.models.deep import bundle, foreign

    if bundle.is_bundle(path):
        opened = bundle.open_bundle(path)
        loader = LOADERS.get(opened.architecture.name)
        if loader is not None:
            module, _, function = loader.partition(":")
            made: Segmenter = getattr(import_module(module), function)(opened)
            return made
        from geoseg.models.deep.semantic import SemanticSegmenter

        return SemanticSegmenter.from_bundle(opened)
    return foreign.load_foreign(path)


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """``symmetries=8``, ``thresholds.built=0.7``: as ``load_model`` takes them.

    >>> parse_parameters(["symmetries=8", "level=l1c", "thresholds.built=0.7"])
    {'symmetries': 8, 'level': 'l1c', 'thresholds': {'built': 0.7}}
    """
    out: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not (separator and name.strip() and value.strip()):
            raise ModelError(f"{text!r}: write a parameter as name=value")
        try:
            read: Any = json.loads(value)
        except ValueError:
            read = value.strip()
        outer, _, inner = name.strip().partition(".")
        if inner:
            out.setdefault(outer, {})[inner] = read
        else:
            out[outer] = read
    return out
