"""Train the fields model: parcels in aerial RGB images, as extent, boundary and distance.

python examples/train/fields.py DATA START BUNDLE [--steps 1000] [--strips 0] [--seed 0]

DATA is the folder naip_us (train/*.tif with *_fields.gpkg, and the pictures of unknown
scale); START a safetensors file of timm's tf_efficientnet_lite0, or a bundle to go on from. The
model that comes with geoseg was trained in two rounds, with fields_bundle.py after each (it halves
the precision of the weights): 1000 steps from the encoder, then 1200 steps from that bundle with
--strips 0.4, where four of ten windows show the same places with strips laid into their fields
(fields_strips.py).

The last three scenes by name are never trained on nor looked at. The last scene and the last two
pictures of what remains are not trained on either: the learning curve is drawn there, and
settings are chosen with them, by fields_bundle.py. The steps are fixed beforehand and the last
averaged weights are kept. Training happens at 2 m, about the scale of the pictures. All else is
what 'geoseg train --task instance' does, which can't be used as it is because the pictures have
no scale. Killed, it goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from fields_strips import squares, stripped
from rasterio.features import rasterize
from skimage.draw import polygon2mask
from weeds import DECODER, RGB, half

from geoseg.learn.augment import Augmentation
from geoseg.learn.goal import Goal
from geoseg.learn.job import Job, Prepared, run
from geoseg.learn.samples import IGNORE, Labelled
from geoseg.learn.train import Schedule

HELD = 3
CHOSEN_ON = 1, 2  # scenes, pictures
GUISES = 2  # of each place with strips in it


def scene(path: Path) -> Labelled:
    """One scene at 2 m with its fields."""
    with rasterio.open(path) as source:
        pixels = half(source.read())
        valid = source.dataset_mask()[: 2 * pixels.shape[1] : 2, : 2 * pixels.shape[2] : 2] > 0
        affine = source.transform @ source.transform.scale(2)
    fields = gpd.read_file(path.with_name(f"{path.stem}_fields.gpkg"))
    ids = rasterize(
        ((shape, i) for i, shape in enumerate(fields.geometry, 1)),
        out_shape=valid.shape,
        transform=affine,
        dtype="int32",
    )
    return labelled(path.stem, pixels, valid, ids)


def picture(path: Path) -> Labelled:
    """One picture of unknown scale, taken as it is."""
    with rasterio.open(path.with_suffix(".png")) as source:
        pixels = source.read()[:3]
    ids = np.zeros(pixels.shape[1:], np.int32)
    outlines = json.loads(path.read_text())["polygons_px"]
    for number, outline in enumerate(outlines, 1):
        ids[polygon2mask(ids.shape, np.asarray(outline)[:, ::-1])] = number
    return labelled(path.stem, pixels, pixels.any(0), ids)


def labelled(name: str, pixels: np.ndarray, valid: np.ndarray, ids: np.ndarray) -> Labelled:
    """With 1 for fields and 0 for what is none."""
    labels = np.where(valid, ids > 0, IGNORE).astype(np.uint8)
    return Labelled(name=name, pixels=pixels, valid=valid, labels=labels, instance_id=ids * valid)


def parts(data: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Scenes and pictures (their labels' .json) to train on, to choose settings on, to judge."""
    scenes = sorted((data / "train").glob("*.tif"))
    pictures = sorted(data.glob("pixel_only*/*.json"))
    scenes, held = scenes[:-HELD], scenes[-HELD:]
    few, two = CHOSEN_ON
    return [*scenes[:-few], *pictures[:-two]], [*scenes[-few:], *pictures[-two:]], held


def read(paths: list[Path]) -> tuple[Labelled, ...]:
    """Scenes and pictures."""
    return tuple(scene(p) if p.suffix == ".tif" else picture(p) for p in paths)


def with_strips(grounds: tuple[Labelled, ...], share: float) -> tuple[Labelled, ...]:
    """The places, and each with strips laid into it, drawn for ``share`` of the windows."""
    if not share:
        return grounds
    bank = squares(grounds)
    weight = share / (1 - share) / GUISES
    guises = [
        replace(stripped(ground, bank, 1000 * guise + k), weight=weight)
        for guise in range(GUISES)
        for k, ground in enumerate(grounds)
    ]
    return *grounds, *guises


def files(paths: list[Path]) -> dict[str, tuple[Path, ...]]:
    """Images and labels, as a job names them."""
    images = [p.with_suffix(".png") if p.suffix == ".json" else p for p in paths]
    labels = [p if p.suffix == ".json" else p.with_name(f"{p.stem}_fields.gpkg") for p in paths]
    return {"scenes": tuple(images), "labels": tuple(labels)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--strips", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    learnt, kept, _ = parts(args.data)
    schedule = Schedule(
        steps=args.steps, batch=4, seed=args.seed, evaluate_every=200, checkpoint_every=25
    )
    job = Job(
        **files(learnt),
        task="instance",
        options={"decoder_channels": list(DECODER)},
        start=args.start,
        augmentation=Augmentation(scale=(0.7, 1.4), gain=0.35, bias=0.35, band_bias=0.15),
        threads=args.threads,
        schedule=schedule,
    )
    prepared = Prepared(
        goal=Goal(task="instance", classes=("background", "field"), things=frozenset({"field"})),
        train=with_strips(read(learnt), args.strips),
        validation=read(kept),
        normalization=RGB,
        bands=("red", "green", "blue"),
        gsd_m=(1.6, 2.5),
        where="a scene and two pictures that were kept",
    )

    def progress(entry: dict) -> None:
        if entry["step"] % 10 == 0:
            print({k: v for k, v in entry.items() if k != "accuracy"}, flush=True)

    print(run(job, args.bundle, prepared, progress, overwrite=False).figures)


if __name__ == "__main__":
    main()
