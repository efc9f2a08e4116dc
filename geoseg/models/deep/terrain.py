"""The terrain model: Dynamic World's network over Sentinel-2 scenes.

The network was trained on L1C (top of atmosphere). L1C is taken as it is; L2A (surface) is
brought near it by ``0.92 dn + c`` with one constant per band, a crude stand-in for the
atmosphere that was fitted on one scene, not a radiative transfer model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.models.deep.bundle import Bundle, open_bundle
from geoseg.models.deep.semantic import SemanticSegmenter
from geoseg.models.fit import fit_scene
from geoseg.models.segmenter import ModelCard, Runtime, TileResult
from geoseg.models.sentinel2 import Product, describe_product
from geoseg.radiometry import Normalization

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["L2A_OFFSET", "L2A_SCALE", "TerrainSegmenter", "load_terrain"]

L2A_SCALE = 0.92
L2A_OFFSET = (700.0, 450.0, 250.0, 180.0, 120.0, 100.0, 80.0, 15.0, 5.0)
"""What brings surface reflectance near top-of-atmosphere's: digital numbers, per band."""


@dataclass(frozen=True)
class TerrainSegmenter:
    """Land cover of Sentinel-2 scenes in nine classes, before it has seen a scene.

    ``level`` (l1c, l2a or auto) and ``offset`` (of the digital numbers) are stated where a
    scene doesn't say them, or says them wrong.
    """

    network: SemanticSegmenter
    level: str = "auto"
    offset: int | None = None
    join: None = None

    @property
    def card(self) -> ModelCard:
        """Of digital numbers that are top-of-atmosphere reflectance."""
        return self.network.card

    def for_scene(self, scene: Scene) -> tuple[SemanticSegmenter, list[str]]:
        """Adapted to the scene's bands, level and offset; raises ModelError."""
        fit = fit_scene(self.card, scene)
        product, doubts = describe_product(scene.tags, self.level, self.offset)
        warnings = [*fit.warnings, *doubts]
        stated = any(scene.bands[i].offset for i in fit.indices)
        if self.offset is None and (stated or np.dtype(scene.dtype).kind == "f"):
            # the bands say theirs, so it is in the fit; reflectance has none
            product = replace(product, offset=0)
        if product.level == "l2a":
            warnings.append(
                "L2A is brought near the L1C of the training data by 0.92 dn + c per band, "
                "a crude stand-in for the atmosphere"
            )
        card = replace(
            self.card,
            normalization=_adjusted(fit.compose(self.card.normalization), product),
            parameters=dict(self.card.parameters)
            | {"level": product.level, "offset": product.offset},
        )
        return replace(self.network, card=card), warnings

    def with_parameters(self, **parameters: Any) -> TerrainSegmenter:
        """Level, offset, and the parameters that any semantic network has."""
        level = str(parameters.pop("level", self.level))
        offset = parameters.pop("offset", self.offset)
        network = self.network.with_parameters(**parameters)
        return TerrainSegmenter(network, level, None if offset is None else int(offset))

    def pinned(self, runtime: Runtime) -> tuple[TerrainSegmenter, Runtime]:
        """On a runtime, every choice made."""
        network, chosen = self.network.pinned(runtime)
        return replace(self, network=network), chosen

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """Of reflectance; ``for_scene`` gives one for a scene's digital numbers."""
        return self.network.predict(pixels, valid)


def _adjusted(how: Normalization, product: Product) -> Normalization:
    """With the product's offset and, for L2A, the stand-in for the atmosphere."""
    scale = np.asarray(how.scale, np.float64)
    offset = np.asarray(how.offset, np.float64) + product.offset * scale
    if product.level == "l2a":
        scale, offset = scale * L2A_SCALE, offset * L2A_SCALE + np.asarray(L2A_OFFSET)
    return replace(how, scale=tuple(scale.tolist()), offset=tuple(offset.tolist()))


@lru_cache(maxsize=1)
def _bundle() -> Bundle:
    return open_bundle(Path(str(resources.files("geoseg") / "data" / "terrain")))


def load_terrain(level: str = "auto", offset: int | None = None) -> TerrainSegmenter:
    """The terrain model; ``level`` l1c or l2a and ``offset`` where a scene doesn't say them."""
    return TerrainSegmenter(SemanticSegmenter.from_bundle(_bundle()), level, offset)
