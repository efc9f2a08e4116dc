"""Train the fields model: parcels in aerial RGB images, as extent, boundary and distance.

python examples/train/fields.py DATA ENCODER OUT [--steps 1000] [--seed 0]

DATA is the folder naip_us (train/*.tif with *_fields.gpkg, and the pictures of unknown
scale); ENCODER a safetensors file of timm's tf_efficientnet_lite0. The last three scenes by
name are never trained on. The last scene and the last two pictures of what remains are not
trained on either: settings are chosen there. The steps are fixed beforehand and the last
averaged weights are kept; the validation scenes are only looked at, for the learning curve.
Training and mapping happen at 2 m, about the scale of the pictures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import torch
from rasterio.features import rasterize
from skimage.draw import polygon2mask
from weeds import RGB, half, network

from geoseg.learn.augment import Augmentation
from geoseg.learn.objective import Parcels
from geoseg.learn.samples import IGNORE, ChipSource, Labelled
from geoseg.learn.train import Schedule, train
from geoseg.models.deep.parcels import ParcelRule, decode_parcels
from geoseg.radiometry import normalize

HELD = 3
CHOSEN_ON = 1, 2  # scenes, pictures


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
    labels = np.where(valid, ids > 0, IGNORE).astype(np.uint8)
    return Labelled(name=name, pixels=pixels, valid=valid, labels=labels, instance_id=ids * valid)


@torch.inference_mode()
def outputs(unet: torch.nn.Module, ground: Labelled) -> np.ndarray:
    """(3, row, col) probabilities of a whole scene in one pass."""
    rows, cols = ground.labels.shape
    pixels = normalize(ground.pixels, RGB) * ground.valid
    pad = [(0, 0), (32, 32 + -rows % 32), (32, 32 + -cols % 32)]
    tile = torch.from_numpy(np.pad(pixels, pad, mode="reflect"))
    probs = unet(tile[None]).sigmoid()[0].numpy()
    return probs[:, 32 : 32 + rows, 32 : 32 + cols]


def scores(found: np.ndarray, ground: Labelled) -> dict[str, float]:
    """Extent intersection and union, and matches at IoU above 0.5 (Kirillov et al. 2019)."""
    valid, truth = ground.valid, ground.instance_id
    guess = found * valid
    pairs, counts = np.unique(np.stack([truth[valid], guess[valid]]), axis=1, return_counts=True)
    size_t, size_g = np.bincount(truth[valid]), np.bincount(guess[valid])
    ious = []
    for (t, g), n in zip(pairs.T, counts):
        iou = n / (size_t[t] + size_g[g] - n)
        if t and g and iou > 0.5:
            ious.append(iou)
    return {
        "common": float(((truth > 0) & (guess > 0) & valid).sum()),
        "union": float((((truth > 0) | (guess > 0)) & valid).sum()),
        "tp": len(ious),
        "iou": float(np.sum(ious)),
        "truth": int((size_t[1:] > 0).sum()),
        "found": int((size_g[1:] > 0).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    scenes = [scene(path) for path in sorted((args.data / "train").glob("*.tif"))]
    pictures = [picture(p) for p in sorted(args.data.glob("pixel_only*/*.json"))]
    held, scenes = scenes[-HELD:], scenes[:-HELD]
    looked = [*scenes[-CHOSEN_ON[0] :], *pictures[-CHOSEN_ON[1] :]]
    source = ChipSource(
        [*scenes[: -CHOSEN_ON[0]], *pictures[: -CHOSEN_ON[1]]],
        size_px=256,
        normalization=RGB,
        augmentation=Augmentation(scale=(0.7, 1.4), gain=0.35, bias=0.35, band_bias=0.15),
        seed=args.seed,
    )

    def evaluate(unet: torch.nn.Module, step: int) -> dict[str, float]:
        figures = {}
        for name, grounds in (("chosen on", looked), ("validation", held)):
            each = [
                scores(decode_parcels(outputs(unet, g), g.valid, ParcelRule(min_px=100)), g)
                for g in grounds
            ]
            s = {key: sum(one[key] for one in each) for key in each[0]}
            figures |= {
                f"{name} extent IoU": s["common"] / s["union"],
                f"{name} PQ": s["iou"] / (s["truth"] / 2 + s["found"] / 2),
                f"{name} F1": 2 * s["tp"] / (s["truth"] + s["found"]),
                f"{name} found": float(s["found"]),
                f"{name} truth": float(s["truth"]),
            }
        print(step, {k: round(v, 4) for k, v in figures.items()}, flush=True)
        return figures

    def progress(entry: dict) -> None:
        if entry["step"] % 10 == 0:
            print({k: entry[k] for k in ("step", "loss", "seconds")}, flush=True)

    schedule = Schedule(
        steps=args.steps, batch=4, seed=args.seed, evaluate_every=200, checkpoint_every=25
    )
    unet = network(args.encoder, 3)
    done = train(unet, source, Parcels(), schedule, args.out, evaluate=evaluate, progress=progress)
    torch.save(done.network.state_dict(), args.out / "weights.pt")


if __name__ == "__main__":
    main()
