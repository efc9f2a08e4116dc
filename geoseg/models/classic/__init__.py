"""Methods that need no training, as ``METHOD:ARGS``: ``otsu:ndvi``, ``kmeans:k=6``, ...

Each is a Segmenter, or a Fittable where it must see the whole scene first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geoseg.errors import ModelError

if TYPE_CHECKING:
    from geoseg.models.segmenter import Fittable, Segmenter

__all__ = ["METHODS", "is_method", "parse"]

_WHERE = {
    # method: (module, function, one line, example)
    "threshold": ("threshold", "fixed", "A fixed threshold of an index, band or formula.",
                  "threshold:ndvi>0.4"),
    "otsu": ("threshold", "from_histogram", "Otsu's threshold of an index.", "otsu:ndwi"),
    "multiotsu": ("threshold", "from_histogram", "Otsu's criterion for 2 to 5 classes.",
                  "multiotsu:ndvi:3"),
    "triangle": ("threshold", "from_histogram", "Triangle rule: a small class on a tail.",
                 "triangle:exg"),
    "li": ("threshold", "from_histogram", "Li's minimum cross entropy.", "li:b4"),
    "percentile": ("threshold", "from_histogram", "The brightest part of a scene.",
                   "percentile:ndvi:90"),
    "valley": ("threshold", "from_histogram", "The valley between two modes of the histogram.",
               "valley:ndwi"),
    "peak": ("threshold", "from_histogram", "What stands out from the background's peak.",
             "peak:exg"),
    "sauvola": ("local", "sauvola", "A local threshold, for uneven light or soil.",
                "sauvola:b1:window=51"),
    "kmeans": ("clusters", "kmeans", "k-means of bands or indices, passes over all pixels.",
               "kmeans:ndvi,ndwi:k=5"),
    "minibatch": ("clusters", "kmeans", "Mini-batch k-means on a sample of all pixels.",
                  "minibatch:k=6"),
    "gmm": ("mixture", "gmm", "Gaussian mixture, with the probability of each class.",
            "gmm:k=5"),
    "sobel": ("edges", "sobel", "Edges where Sobel's gradient is steep.",
              "sobel:b1:threshold=0.05"),
    "canny": ("edges", "canny", "Canny's thin, linked edges.", "canny:b1:low=0.05,high=0.1"),
    "contours": ("edges", "contours", "Regions enclosed by Canny's edges, as objects.",
                 "contours:b1:low=0.03,high=0.06"),
    "watershed": ("watershed", "watershed", "Objects around markers, flooded to their borders.",
                  "watershed:exg:on=distance,spacing=15"),
    "grow": ("regions", "grow", "Regions grown from seeds over the smallest steps.",
             "grow:ndvi:tolerance=0.02"),
    "felzenszwalb": ("merging", "felzenszwalb", "Regions by graph-based merging.",
                     "felzenszwalb:scale=50,sigma=0.8"),
    "quadtree": ("quadtree", "quadtree", "Split into even squares, then merge alike ones.",
                 "quadtree:b1:split=0.1,merge=0.03"),
    "slic": ("superpixels", "slic", "Superpixels: small even objects of equal size.",
             "slic:size=10,compactness=0.5"),
    "objects": ("objects", "objects", "Superpixels classified from samples by a random forest.",
                "objects:size=10"),
}  # fmt: skip

METHODS: dict[str, tuple[str, str]] = {name: row[2:] for name, row in _WHERE.items()}
"""Method -> (one line that says what it is, an example)."""


def is_method(text: str) -> bool:
    """Whether a model's name is that of a classic method, whatever follows the colon."""
    return text.partition(":")[0] in _WHERE


def parse(text: str) -> Segmenter | Fittable:
    """The method that ``METHOD:ARGS`` names.

    Raises ModelError for an unknown method, argument or formula, with an example.
    """
    from geoseg.models.classic.spec import split_spec

    spec = split_spec(text)
    if spec.method not in _WHERE:
        examples = ", ".join(example for _, example in METHODS.values())
        raise ModelError(f"no method {spec.method!r}: known are {', '.join(METHODS)}: {examples}")
    module, function, _, example = _WHERE[spec.method]
    build = getattr(import_module(f"geoseg.models.classic.{module}"), function)
    model: Segmenter | Fittable = build(spec)
    if spec.leftover():
        known = ", ".join(sorted(spec.used)) or "none"
        raise ModelError(
            f"{text}: no option {spec.leftover()[0]!r}: {spec.method} takes {known}, as {example}"
        )
    return model
