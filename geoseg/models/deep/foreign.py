"""Models that other tools wrote: segmentation-models-pytorch, plain state dicts, ONNX.

Nothing in them is executed. What they don't say about bands, values and classes is assumed
as little as possible, and the card says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import Architecture, build, defaults
from geoseg.models.deep.network import load_weights, read_state_dict
from geoseg.models.deep.semantic import SemanticSegmenter
from geoseg.models.segmenter import ModelCard, Segmenter
from geoseg.radiometry import Normalization

__all__ = ["SmpNetwork", "from_state_dict", "load_foreign", "load_hub", "plain_legend"]

_SMP_NAMES = {
    "Unet": "unet",
    "UnetPlusPlus": "unetplusplus",
    "DeepLabV3Plus": "deeplabv3plus",
    "FPN": "fpn",
    "PSPNet": "pspnet",
    "Segformer": "segformer",
    "UPerNet": "upernet",
    "DPT": "dpt",
}
_SMP_DROPPED = {"encoder_weights", "in_channels", "classes", "encoder_name", "aux_params"}

_PALETTE = (
    "#419bdf", "#397d49", "#88b053", "#7a87c6", "#e49635", "#dfc35a", "#c4281b", "#a59b8f",
    "#b39fe1", "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d",
)  # fmt: skip


@dataclass(frozen=True)
class SmpNetwork:
    """A folder of ``save_pretrained``: config.json beside model.safetensors."""

    path: Path
    key: str
    architecture: Architecture
    backends: tuple[str, ...] = ("torch", "openvino")

    def load(self) -> nn.Module:
        """See ``network.Network``."""
        module = build(self.architecture)
        load_weights(module, read_state_dict(self.path), str(self.path))
        return module.eval().requires_grad_(False)


def load_foreign(path: Path) -> Segmenter:
    """A model that geoseg didn't write, by what the path holds; raises ModelError."""
    if path.is_dir():
        return _load_smp(path)
    if path.suffix.lower() == ".onnx":
        from geoseg.models.deep.onnx import load_onnx

        return load_onnx(path)
    if path.suffix.lower() in (".safetensors", ".pt", ".pth", ".ckpt"):
        raise ModelError(
            f"{path}: weights alone don't say what they are the weights of: make a bundle with "
            f"'geoseg bundle make {path.name} --architecture unet --encoder resnet34 ...'"
        )
    raise ModelError(
        f"{path}: not a model: give a bundle (folder or zip), a save_pretrained folder or .onnx"
    )


def load_hub(name: str) -> SemanticSegmenter:
    """``owner/name`` of the Hugging Face hub: a network of segmentation-models-pytorch.

    Only config.json and model.safetensors are fetched, once, into the hub's own cache. Raises
    ModelError where there is no such network, or no network to reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, allow_patterns=["config.json", "model.safetensors"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"hub:{name}: can't be fetched: {first}") from error
    found = _load_smp(Path(folder))
    return replace(found, card=replace(found.card, name=name.rpartition("/")[2]))


def _load_smp(folder: Path) -> SemanticSegmenter:
    """A ``save_pretrained`` folder of segmentation-models-pytorch."""
    weights = folder / "model.safetensors"
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: neither a bundle (no model.json) nor a save_pretrained folder "
            f"(config.json: {error})"
        ) from error
    name = str(config.get("_model_class", ""))
    if name not in _SMP_NAMES:
        known = ", ".join(_SMP_NAMES)
        raise ModelError(f"{folder}: its class is {name!r}, geoseg knows {known}")
    architecture = Architecture(
        name=_SMP_NAMES[name],
        encoder=str(config["encoder_name"]),
        bands=int(config.get("in_channels", 3)),
        classes=int(config.get("classes", 1)),
        options={
            key: value
            for key, value in config.items()
            if key not in _SMP_DROPPED and not key.startswith("_")
        },
    )
    # the activation is taken off: geoseg works with logits
    options = {k: v for k, v in architecture.options.items() if k != "activation"}
    architecture = Architecture.from_dict(architecture.to_dict() | {"options": options})
    try:
        key = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{folder}: can't read its weights: {error}") from error
    card = plain_card(folder.name, architecture, key)
    return SemanticSegmenter(card, SmpNetwork(weights, key, architecture))


def plain_card(name: str, architecture: Architecture, sha256: str) -> ModelCard:
    """What can be said of a network without a card: bands in the scene's order, 0 to 255
    scaled as ImageNet's for three bands, else 0 to 1.
    """
    default = defaults(architecture.name)
    scaling: dict[str, Any] = {"scale": (1 / 255,)}
    if architecture.bands == 3:
        scaling |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    rgb = ("red", "green", "blue") if architecture.bands == 3 else ()
    bands = rgb or tuple(f"band_{i + 1}" for i in range(architecture.bands))
    return ModelCard(
        name=name,
        task="semantic",
        bands=bands,
        legend=plain_legend(max(architecture.classes, 2)),
        normalization=Normalization(**scaling),
        value_range=(0.0, 255.0),
        tile_size=512,
        halo=default.halo,
        divisor=default.divisor,
        summary="a network without a card: bands, scaling and classes are assumed",
        sha256=sha256,
    )


def plain_legend(classes: int, names: Mapping[int, str] | None = None) -> Legend:
    """Classes by number, with the names that are known."""
    names = names or {}
    return Legend(
        tuple(
            Category(i, names.get(i, f"class_{i}"), _PALETTE[i % len(_PALETTE)])
            for i in range(classes)
        )
    )


def from_state_dict(
    path: str | Path, architecture: Architecture, card: ModelCard | None = None
) -> tuple[nn.Module, ModelCard]:
    """A plain state dict (also Lightning's and TorchGeo's) with a stated architecture.

    Returns (module, card); raises ModelError where weights and architecture differ.
    """
    path = Path(path)
    module = build(architecture)
    load_weights(module, read_state_dict(path), str(path))
    return module.eval(), card or plain_card(path.stem, architecture, "")
