"""The weeds model on the validation place, through the tiled pipeline.

python benchmarks/weeds_model.py DATA MODEL OUT [--symmetries 8]

DATA holds potato_uav. The southern 30 % of the orthomosaic are mapped with ``geoseg map``
at twice the pixel size and judged there: IoU of pixels; objects of weeds and crop as
connected areas (4 neighbours) against the drawn polygons, matched at IoU above 0.5, areas
below SMALLEST m2 left out on both sides. OUT gets map.tif and a picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage

from geoseg.assess.segmentation import Confusion
from geoseg.cli import geoseg

GSD = 0.0054
SMALLEST = 0.0005
"""m2: 17 px of the map. 99.6 % of the weeds drawn in the training part are larger."""
NAMES = ("soil", "crop", "weed")
COLOURS = np.array([(200, 173, 127), (46, 139, 87), (215, 38, 61)], np.uint8)


def southern(path: Path) -> tuple[tuple[float, float, float, float], int]:
    """Bounds of the validation part, and the row of the map's grid where it begins."""
    with rasterio.open(path) as file:
        first = int(file.height // 2 * 0.7) * 2
        left, top = file.transform @ (0, first)
        right, bottom = file.transform @ (file.width, file.height)
    return (left, bottom, right, top), first // 2


def objects(truth: np.ndarray, found: np.ndarray, smallest: float) -> dict[str, float]:
    """F1 of ids (row, col), 0 = none, matched at IoU above 0.5."""
    pairs, counts = np.unique(np.stack([truth.ravel(), found.ravel()]), axis=1, return_counts=True)
    sizes = [np.bincount(ids.ravel()) for ids in (truth, found)]
    keep = [np.flatnonzero(size >= smallest)[1:] for size in sizes]
    hits = 0
    for (t, f), n in zip(pairs.T, counts):
        large = sizes[0][t] >= smallest and sizes[1][f] >= smallest
        if t and f and large and n / (sizes[0][t] + sizes[1][f] - n) > 0.5:
            hits += 1
    total = len(keep[0]) + len(keep[1])
    return {"drawn": len(keep[0]), "found": len(keep[1]), "right": hits, "F1": 2 * hits / total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--symmetries", type=int, default=1)
    args = parser.parse_args()
    image = args.data / "potato_uav" / "ortho.tif"
    args.out.mkdir(parents=True, exist_ok=True)
    bounds, _ = southern(image)
    target = args.out / "map.tif"
    done = CliRunner().invoke(
        geoseg,
        ["map", str(image), "--model", args.model, "--gsd", str(GSD), "-b", "1,2,3",
         "--aoi", ",".join(map(repr, bounds)), "-o", str(target), "--overwrite", "-q",
         "--set", f"symmetries={args.symmetries}"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with rasterio.open(target) as file:
        found, affine, crs = file.read(1), file.transform, file.crs
    drawn = gpd.read_file(args.data / "potato_uav" / "labels.gpkg").to_crs(crs.to_wkt())
    drawn = drawn.sort_values("label", key=lambda name: name == "weed")
    grid = {"out_shape": found.shape, "transform": affine}
    kinds = drawn.label.map({"potato": 1, "weed": 2})
    truth = rasterize(zip(drawn.geometry, kinds), dtype="uint8", **grid)
    truth[found == 255] = 255
    confusion = Confusion.of(truth, found)
    figures: dict = {f"IoU {n}": round(confusion.iou(k), 4) for k, n in enumerate(NAMES)}
    figures["accuracy"] = round(confusion.accuracy, 4)
    ids = rasterize(((s, k) for k, s in enumerate(drawn.geometry, 1)), dtype="int32", **grid)
    ids[found == 255] = 0
    for k in (2, 1):
        mine = np.where(np.isin(ids, np.flatnonzero(kinds.to_numpy() == k) + 1), ids, 0)
        areas = ndimage.label(found == k)[0]
        each = objects(mine, areas, SMALLEST / GSD**2)
        figures[f"{NAMES[k]} objects"] = {n: round(v, 4) for n, v in each.items()}
    print(json.dumps(figures))
    draw(image, found, truth, affine, args.out / "weeds-model.png")


def draw(image: Path, found: np.ndarray, truth: np.ndarray, affine: rasterio.Affine, out: Path):
    """A square of the validation place: the photo, what was drawn, what was found."""
    side = 560
    weeds = ndimage.uniform_filter((truth == 2).astype(np.float32), side)
    inner = weeds[side // 2 : -(side // 2), side // 2 : -(side // 2)]
    row, col = np.unravel_index(np.argmax(inner), inner.shape)
    square = np.s_[row : row + side, col : col + side]
    left, top = affine @ (col, row)
    right, bottom = affine @ (col + side, row + side)
    with rasterio.open(image) as file:
        window = file.window(left, bottom, right, top)
        photo = file.read([1, 2, 3], window=window, out_shape=(3, side, side)).transpose(1, 2, 0)

    def over(labels: np.ndarray) -> np.ndarray:
        colour = COLOURS[np.minimum(labels, 2)].astype(float)
        mixed = np.where((labels > 0)[..., None], 0.35 * photo + 0.65 * colour, photo)
        return mixed.astype(np.uint8)

    gap = np.full((side, 8, 3), 255, np.uint8)
    panels = [photo, gap, over(truth[square]), gap, over(found[square])]
    picture = Image.fromarray(np.concatenate(panels, 1))
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=96).save(out, optimize=True)


if __name__ == "__main__":
    main()
