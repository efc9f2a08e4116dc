"""The terrain model: Dynamic World's network over Sentinel-2 scenes.

The network was trained on L1C (top of atmosphere). L1C is taken as it is; L2A (surface) is
brought near it by ``0.92 dn + c`` with one constant per band, a crude stand-in for the
atmosphere that was fitted by eye on one scene, not a radiative transfer model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geoseg.errors import ModelError
from geoseg.models.deep.dynamic_world import DynamicWorldNet
from geoseg.models.fit import fit_scene
from geoseg.models.segmenter import Join, LabelTile, ModelCard, Runtime, SemanticTile, TileResult
from geoseg.models.sentinel2 import describe_product
from geoseg.radiometry import normalize, score_level

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = ["TerrainSegmenter", "load_terrain"]

L2A_SCALE = 0.92
L2A_OFFSET = (700.0, 450.0, 250.0, 180.0, 120.0, 100.0, 80.0, 15.0, 5.0)
"""What brings surface reflectance near top-of-atmosphere's, per band of the card."""


_DEFAULT = Runtime(device="cpu", backend="torch", precision="fp32", threads=1, batch=1)


@lru_cache(maxsize=4)
def _network(device: str) -> DynamicWorldNet:
    """The network with its weights, once per process and device."""
    weights = resources.files("geoseg") / "data" / "terrain" / "weights.safetensors"
    network = DynamicWorldNet()
    with resources.as_file(weights) as path:
        network.load_state_dict(load_file(path))
    network.eval().requires_grad_(False)
    for unit in network.modules():
        if isinstance(unit, nn.Sequential):
            convolution, norm = unit[0], unit[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                unit[0], unit[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return network.to(memory_format=torch.channels_last).to(device)


@dataclass(frozen=True)
class TerrainSegmenter:
    """Land cover of Sentinel-2 scenes in nine classes."""

    card: ModelCard
    level: str = "auto"
    offset: int | None = None
    runtime: Runtime = _DEFAULT
    with_probs: bool = False
    join: Join | None = None

    def for_scene(self, scene: Scene) -> tuple[TerrainSegmenter, list[str]]:
        """Adapted to the scene's bands, level and offset; raises ModelError."""
        fit = fit_scene(self.card, scene)
        product, doubts = describe_product(scene.tags, self.level, self.offset)
        warnings = [*fit.warnings, *doubts]
        if self.offset is None and any(scene.bands[i].offset for i in fit.indices):
            product = replace(product, offset=0)  # the bands say theirs: it is in the fit
        adjusted = fit.compose(self.card.normalization)
        shift = product.offset * np.asarray(adjusted.scale)
        scale, offset = np.asarray(adjusted.scale), np.asarray(adjusted.offset) + shift
        if product.level == "l2a":
            scale, offset = scale * L2A_SCALE, offset * L2A_SCALE + np.asarray(L2A_OFFSET)
            warnings.append(
                "L2A is brought near the L1C of the training data by 0.92 dn + c per band, "
                "a crude stand-in for the atmosphere"
            )
        normalization = replace(
            self.card.normalization, scale=tuple(scale.tolist()), offset=tuple(offset.tolist())
        )
        parameters = {"level": product.level, "offset": product.offset}
        card = replace(self.card, normalization=normalization, parameters=parameters)
        return replace(self, card=card), warnings

    def pinned(self, runtime: Runtime) -> tuple[TerrainSegmenter, Runtime]:
        """On torch in fp32, wherever that is; raises ModelError for anything else."""
        device = runtime.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        for name, value in (("backend", runtime.backend), ("precision", runtime.precision)):
            known = {"backend": "torch", "precision": "fp32"}[name]
            if value not in ("auto", known):
                raise ModelError(
                    f"the terrain model runs with {name} {known} only, not {value}: its labels "
                    "are not kept elsewhere"
                )
        chosen = Runtime(
            device=device,
            backend="torch",
            precision="fp32",
            threads=runtime.threads or 1,
            # a CPU gains nothing from batches of this network, and a last one is filled up
            batch=runtime.batch or (1 if device == "cpu" else 16),
        )
        return replace(self, runtime=chosen), chosen

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        """Normalized values of all int16 numbers, (band, 65536): exact, and no logarithms."""
        numbers = np.arange(65536, dtype=np.uint16)
        values = np.broadcast_to(numbers.view(np.int16), (len(self.card.bands), 1, 65536))
        return normalize(values, self.card.normalization)[:, 0]

    def _inputs(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        if pixels.dtype == np.int16:
            index = pixels.view(np.uint16)
            inputs = np.stack(
                [np.take(self._table[b], index[:, b]) for b in range(pixels.shape[1])], axis=1
            )
        else:
            inputs = normalize(pixels, self.card.normalization)
        return np.where(valid[:, None], inputs, np.float32(0.5))

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        """Labels and scores of a batch (tile, 9, row, col); see Segmenter."""
        torch.set_num_threads(self.runtime.threads or 1)
        device = "cpu" if self.runtime.device == "auto" else self.runtime.device
        network = _network(device)
        inputs = torch.from_numpy(self._inputs(pixels, valid)).to(device)
        with torch.inference_mode():
            probs = network(inputs.contiguous(memory_format=torch.channels_last)).softmax(1)
            if self.with_probs:
                return [SemanticTile(tile) for tile in probs.float().cpu().numpy()]
            best, label = probs.max(dim=1)
        labels = label.to(torch.uint8).cpu().numpy()
        scores = score_level(best.cpu().numpy())
        return [LabelTile(a, b) for a, b in zip(labels, scores, strict=True)]


def load_terrain(level: str = "auto", offset: int | None = None) -> TerrainSegmenter:
    """The terrain model; ``level`` l1c or l2a and ``offset`` where a scene doesn't say them."""
    import json

    text = (resources.files("geoseg") / "data" / "terrain" / "model.json").read_text()
    return TerrainSegmenter(ModelCard.from_dict(json.loads(text)), level, offset)
