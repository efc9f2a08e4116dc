"""Train the weeds model: soil, crop and weed in drone images of rows.

python examples/train/weeds.py DATA ENCODER OUT [--steps 1500] [--seed 0]

DATA holds potato_uav (ortho.tif, labels.gpkg) and growingsoy (images, annotations.coco.json);
ENCODER is a safetensors file of timm's tf_efficientnet_lite0. Never trained on: the southern
30 % of the orthomosaic with a buffer, and the last two videos of growingsoy by name. The
steps are fixed beforehand and the last averaged weights are kept; the validation places are
only looked at, for the learning curve. Training and mapping happen at twice the pixel size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import segmentation_models_pytorch as smp
import torch
from rasterio.features import rasterize
from safetensors.torch import load_file
from skimage.draw import polygon2mask

from geoseg.learn.augment import Augmentation
from geoseg.learn.objective import Classes
from geoseg.learn.samples import IGNORE, ChipSource, Labelled
from geoseg.learn.split import split_rows
from geoseg.learn.train import Schedule, train
from geoseg.radiometry import Normalization, normalize

RGB = Normalization(mean=(127.5,), std=(127.5,))
CLASSES = ("soil", "crop", "weed")
BUFFER_PX = 256
DECODER = (96, 64, 32, 16, 16)
# about six of ten chips come from the orthomosaic, though there are a hundred photos
PHOTO_WEIGHT = 0.05


def half(pixels: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 pixels, (band, row, col) uint8."""
    bands, rows, cols = pixels.shape
    blocks = pixels[:, : rows // 2 * 2, : cols // 2 * 2].reshape(bands, rows // 2, 2, cols // 2, 2)
    return np.rint(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def potato(folder: Path) -> tuple[Labelled, Labelled]:
    """Training and validation part at twice the pixel size."""
    with rasterio.open(folder / "ortho.tif") as source:
        pixels, affine = half(source.read()), source.transform @ source.transform.scale(2)
    labels = gpd.read_file(folder / "labels.gpkg")
    order = labels.sort_values("label", key=lambda name: name == "weed")
    ids = order.label.map({"potato": 1, "weed": 2})
    truth = rasterize(
        zip(order.geometry, ids), out_shape=pixels.shape[1:], transform=affine, dtype="uint8"
    )
    whole = Labelled(
        name="potato_uav", pixels=pixels, valid=np.ones(truth.shape, bool), labels=truth
    )
    split = split_rows(truth.shape, int(truth.shape[0] * 0.7), BUFFER_PX // 2)
    return whole.within(split.train), whole.within(split.validation)


def soy(folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    """Training and validation photos at twice the pixel size."""
    coco = json.loads((folder / "annotations.coco.json").read_text())
    weed = {c["id"]: "weed" in c["name"] for c in coco["categories"]}
    videos = sorted({i["file_name"].split("_frame")[0] for i in coco["images"]})
    parts: tuple[list[Labelled], list[Labelled]] = ([], [])
    for image in coco["images"]:
        with rasterio.open(folder / "images" / image["file_name"]) as source:
            pixels = source.read()
        truth = np.zeros(pixels.shape[1:], np.uint8)
        mine = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        for annotation in sorted(mine, key=lambda a: weed[a["category_id"]]):
            for ring in annotation["segmentation"]:
                outline = np.asarray(ring).reshape(-1, 2)[:, ::-1]
                truth[polygon2mask(truth.shape, outline)] = 1 + weed[annotation["category_id"]]
        small = half(pixels)
        valid = np.ones(small.shape[1:], bool)
        photo = Labelled(
            name=image["file_name"],
            pixels=small,
            valid=valid,
            labels=truth[::2, ::2],
            weight=PHOTO_WEIGHT,
        )
        held = image["file_name"].split("_frame")[0] in videos[-2:]
        parts[held].append(photo)
    return parts


def network(encoder: Path, outputs: int) -> torch.nn.Module:
    """U-Net on EfficientNet-Lite0 with a light decoder."""
    unet = smp.Unet(
        "tu-tf_efficientnet_lite0", encoder_weights=None, decoder_channels=DECODER, classes=outputs
    )
    state = {f"model.{k}": v for k, v in load_file(encoder).items()}
    missing = unet.encoder.load_state_dict(state, strict=False).missing_keys
    assert not missing, missing
    return unet


@torch.inference_mode()
def confusion(unet: torch.nn.Module, grounds: list[Labelled]) -> np.ndarray:
    """(truth, predicted) pixel counts, tile by tile with a halo of 32."""
    counts = np.zeros((3, 3), np.int64)
    device = next(unet.parameters()).device
    for ground in grounds:
        used = np.flatnonzero((ground.labels != IGNORE).any(1))
        top, bottom = used[0], used[-1] + 1
        cols = ground.labels.shape[1]
        pixels = normalize(ground.pixels[:, top:bottom], RGB)
        pad = [(0, 0), (32, 32 + -(bottom - top) % 256), (32, 32 + -cols % 256)]
        pixels = np.pad(pixels, pad, mode="reflect")
        truth = ground.labels[top:bottom]
        for row in range(0, truth.shape[0], 256):
            for col in range(0, cols, 256):
                tile = torch.from_numpy(pixels[None, :, row : row + 320, col : col + 320].copy())
                guess = unet(tile.to(device))[0, :, 32:-32, 32:-32].argmax(0).cpu().numpy()
                here = truth[row : row + 256, col : col + 256]
                guess = guess[: here.shape[0], : here.shape[1]]
                pairs = here[here != IGNORE].astype(int) * 3 + guess[here != IGNORE]
                counts += np.bincount(pairs, minlength=9).reshape(3, 3)
    return counts


def ious(counts: np.ndarray) -> np.ndarray:
    """IoU per class."""
    hits = np.diag(counts)
    return hits / np.maximum(counts.sum(0) + counts.sum(1) - hits, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=300, help="steps between validations")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--start", type=Path, help="checkpoint.pt of a training to cool down")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_potato, held_potato = potato(args.data / "potato_uav")
    train_soy, held_soy = soy(args.data / "growingsoy")
    source = ChipSource(
        [train_potato, *train_soy],
        size_px=192,
        normalization=RGB,
        augmentation=Augmentation(scale=(0.7, 1.4)),
        seed=args.seed,
    )

    def evaluate(unet: torch.nn.Module, step: int) -> dict[str, float]:
        figures = {}
        for name, grounds in (("potato_uav", [held_potato]), ("growingsoy", held_soy)):
            for label, iou in zip(CLASSES, ious(confusion(unet, grounds))):
                figures[f"{name} {label} IoU"] = round(float(iou), 4)
        print(step, figures, flush=True)
        return figures

    schedule = Schedule(
        steps=args.steps,
        batch=6,
        lr=args.lr,
        warmup=min(50, args.steps // 20),
        seed=args.seed,
        evaluate_every=args.every,
        checkpoint_every=25,
    )
    unet = network(args.encoder, len(CLASSES))
    if args.start:
        unet.load_state_dict(torch.load(args.start, weights_only=True)["average"])

    def progress(entry: dict) -> None:
        if entry["step"] % 10 == 0:
            print({k: entry[k] for k in ("step", "loss", "seconds")}, flush=True)

    done = train(unet, source, Classes(3), schedule, args.out, evaluate=evaluate, progress=progress)
    torch.save(done.network.state_dict(), args.out / "weights.pt")


if __name__ == "__main__":
    main()
