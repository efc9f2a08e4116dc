"""The model of a map as a STAC item of its own (MLM), beside the item of the run."""

from __future__ import annotations

import json
from pathlib import Path

from geoseg.engine.segmentmap import SegmentMap

__all__ = ["MODEL_ITEM", "write_model_item"]

MODEL_ITEM = "_model.json"
"""Follows the name of the run's item."""


def write_model_item(result: SegmentMap, path: str) -> tuple[str, str] | None:
    """Write the model's own item (MLM) beside the run's; its href and the model's name there.

    None where the model isn't known.

    Methods without weights have one, too: the card in it is all that they are.
    """
    from geoseg.engine.store import JobStore
    from geoseg.export.ogr import date
    from geoseg.export.target import written_beside
    from geoseg.models.deep.mlm import to_item
    from geoseg.models.segmenter import ModelCard

    job = JobStore(result.url.rpartition("/")[0], result.storage_options).read_json("job.json")
    if job is None:
        return None
    card = ModelCard.from_dict(job["identity"]["model"])
    name = Path(path).stem + MODEL_ITEM
    # the card's name says the architecture: a network's, or a method and its formula
    architecture = {"name": card.name.partition(":")[0], "bands": max(len(card.bands), 1)}
    item = to_item(card, architecture, parameters=0, weights=name)
    del item["properties"]["mlm:total_parameters"]
    item["properties"] |= {
        "datetime": date().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "mlm:framework": "PyTorch" if card.sha256 else "geoseg",
        "geoseg:card": card.to_dict(),
    }
    item["assets"] = {
        "model": {
            "href": f"./{name}",
            "type": "application/geo+json",
            "title": f"weights of sha256 {card.sha256}" if card.sha256 else card.name,
            "roles": ["mlm:model"],
            "mlm:artifact_type": "geoseg",
        }
    }
    with written_beside(Path(path).with_name(name), True, kinds=("item",)) as part:
        text = json.dumps(item, indent=2, ensure_ascii=False, default=list)
        part.write_text(text, encoding="utf-8")
    return f"./{name}", str(item["properties"]["mlm:name"])
