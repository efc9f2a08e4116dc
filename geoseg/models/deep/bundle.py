"""Bundles: a model as one folder or zip of ``weights.safetensors`` and ``model.json``.

``model.json`` is a STAC Item with Machine Learning Model metadata (MLM 1.5), so that
catalogues can list it; what geoseg needs to run it stands under ``geoseg``: the ModelCard
and the architecture. Opening a bundle executes nothing that it holds: the architecture is a
name from geoseg's own list and weights are plain tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load, save

from geoseg.errors import ModelError, OutputError
from geoseg.models.deep.architectures import Architecture
from geoseg.models.deep.mlm import to_item
from geoseg.models.segmenter import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bundle", "is_bundle", "open_bundle", "write_bundle"]

CARD = "model.json"
WEIGHTS = "weights.safetensors"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model on disk: ``path`` (folder or zip), ``card`` and ``architecture``."""

    path: Path
    card: ModelCard
    architecture: Architecture

    def read_weights(self) -> dict[str, Tensor]:
        """Named tensors; raises ModelError where they are not those that the card states."""
        return load(self.read_weight_bytes())

    def read_weight_bytes(self) -> bytes:
        """The weights' file as it is, its sha256 checked."""
        data = _read(self.path, WEIGHTS)
        found = hashlib.sha256(data).hexdigest()
        if found != self.card.sha256:
            raise ModelError(
                f"{self.path}: its weights have sha256 {found[:12]}..., its card states "
                f"{self.card.sha256[:12] or 'none'}...: damaged or changed; get it again"
            )
        return data


def is_bundle(path: Path) -> bool:
    """Whether a path is a folder or zip with a card in it."""
    if path.is_dir():
        return (path / CARD).is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return CARD in archive.namelist()


def open_bundle(path: str | Path) -> Bundle:
    """A bundle's card and architecture, weights checked; raises ModelError."""
    path = Path(path)
    try:
        item = json.loads(_read(path, CARD))
    except ValueError as error:
        raise ModelError(f"{path}: {CARD} is not JSON: {error}") from error
    given = item.get("geoseg") if isinstance(item, dict) else None
    if not isinstance(given, dict) or not {"card", "architecture"} <= given.keys():
        raise ModelError(f"{path}: {CARD} has no geoseg card and architecture: not a bundle")
    if given.get("format", 0) > FORMAT:
        raise ModelError(
            f"{path}: written in bundle format {given['format']}, this geoseg reads up to "
            f"{FORMAT}: install a newer geoseg"
        )
    bundle = Bundle(
        path=path,
        card=ModelCard.from_dict(given["card"]),
        architecture=Architecture.from_dict(given["architecture"]),
    )
    bundle.read_weight_bytes()
    return bundle


def write_bundle(
    path: str | Path,
    card: ModelCard,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    *,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle: a zip where the name ends in .zip, else a folder.

    The card's sha256 is set to that of the weights. It appears under its name only when it
    is whole and has been read back. Raises OutputError when it exists already.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or overwrite it")
    check_replaceable(path)
    data = save({name: tensor.contiguous().cpu() for name, tensor in weights.items()})
    card = replace(card, sha256=hashlib.sha256(data).hexdigest())
    item = to_item(card, architecture.to_dict(), parameters=_count(weights), weights=WEIGHTS)
    item["geoseg"] = {
        "format": FORMAT,
        "card": card.to_dict(),
        "architecture": architecture.to_dict(),
    }
    text = json.dumps(item, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        target = beside / path.name
        _write(target, {CARD: text.encode(), WEIGHTS: data})
        open_bundle(target)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(target, path)
    except OSError as error:
        raise OutputError(f"{path}: can't write the bundle: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Bundle(path=path, card=card, architecture=architecture)


def check_replaceable(path: Path) -> None:
    """Raises OutputError for a folder that is no bundle: what is in it would be lost."""
    if path.is_dir() and not is_bundle(path) and any(path.iterdir()):
        raise OutputError(f"{path}: is a folder, but no bundle: it is not replaced: name another")


def _count(weights: Mapping[str, Tensor]) -> int:
    """Parameters; statistics of batch norms are not counted."""
    kept = ("running_mean", "running_var", "num_batches_tracked")
    return sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(kept))


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        return
    target.mkdir()
    for name, data in files.items():
        (target / name).write_bytes(data)


def _read(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: can't read {name} of the bundle: {error}") from error
