"""A model as a STAC Item with Machine Learning Model metadata (extension MLM 1.5.2).

Field names as in https://github.com/stac-extensions/mlm; only what a card knows is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geoseg.models.segmenter import ModelCard
from geoseg.models.sentinel2 import WAVELENGTHS_UM, band_key

__all__ = ["MLM_SCHEMA", "to_item"]

MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
EO_SCHEMA = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"

_TASKS = {
    "semantic": "semantic-segmentation",
    "instance": "instance-segmentation",
    "panoptic": "panoptic-segmentation",
}


def to_item(
    card: ModelCard, architecture: Mapping[str, Any], *, parameters: int, weights: str
) -> dict[str, Any]:
    """The Item of a model whose weights are the file ``weights`` beside it."""
    bands = list(card.bands) or [f"band_{i + 1}" for i in range(int(architecture["bands"]))]
    size, classes = card.tile_size, len(card.legend)
    task = _TASKS[card.task]
    described = [_band(name) for name in bands]
    name = re.sub(r"[^a-zA-Z0-9_. -]", "_", card.name)
    properties: dict[str, Any] = {
        "datetime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "description": card.summary or card.name,
        "eo:bands": described,
        "mlm:name": name if re.fullmatch(r"[a-zA-Z].+[a-zA-Z0-9]", name) else f"model-{name}-0",
        "mlm:architecture": str(architecture["name"]),
        "mlm:tasks": [task],
        "mlm:framework": "PyTorch",
        "mlm:total_parameters": parameters,
        "mlm:input": [
            {
                "name": "pixels",
                "bands": bands,
                "input": {
                    "shape": [-1, len(bands), size, size],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": _value_scaling(card, len(bands)),
            }
        ],
        "mlm:output": [
            {
                "name": "logits",
                "tasks": [task],
                "result": {
                    "shape": [-1, classes, size, size],
                    "dim_order": ["batch", "class", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": card.legend.to_stac(),
            }
        ],
    }
    if card.licence:
        properties["license"] = re.sub(r"[^\w.-]", "-", card.licence)
    asset = {
        "href": f"./{weights}",
        "type": "application/vnd.safetensors",
        "title": "Weights",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors.torch.save_file",
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM_SCHEMA, EO_SCHEMA],
        "id": card.name,
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {"weights": asset},
    }


def _band(name: str) -> dict[str, Any]:
    centre = WAVELENGTHS_UM.get(band_key(name))
    return {"name": name} | ({} if centre is None else {"center_wavelength": centre})


def _value_scaling(card: ModelCard, bands: int) -> list[dict[str, Any]] | None:
    """Scaling per band as MLM has it: ``(dn - mean) / stddev``, or an expression."""
    how = card.normalization
    if how.kind != "standard":
        expression = "1 / (1 + exp(1 - 5 * (log(0.005 * x + 1) - mean) / std))"
        return [{"type": "processing", "format": "text", "expression": expression}]

    def each(values: tuple[float, ...]) -> list[float]:
        return list(values) * bands if len(values) == 1 else list(values)

    columns = zip(each(how.scale), each(how.offset), each(how.mean), each(how.std), strict=True)
    scaled = [
        {"type": "z-score", "mean": (mean - offset) / scale, "stddev": std / scale}
        for scale, offset, mean, std in columns
    ]
    return scaled[:1] if all(one == scaled[0] for one in scaled) else scaled
