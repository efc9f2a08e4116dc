"""The fields model on the validation scenes, through the tiled pipeline.

python benchmarks/fields_model.py DATA MODEL OUT

DATA is the folder naip_us. Its last three scenes by name are mapped whole with ``geoseg map`` at
the model's GSD, to polygons; these and the drawn fields are laid on the scene's grid of 1 m and
held against each other by what ``geoseg evaluate`` is made of: IoU of the extent, and PQ and F1 of
fields matched at IoU above 0.5, over all three and each. What isn't drawn counts as no field. Then
what became of each drawn field that isn't right: ``missed`` (found fields cover less than half of it),
``in pieces`` (no found field covers half of it), or ``in one`` (a found field covers half of it or
more, but reaches beyond it): with a neighbour of the same look (mean colours within 12 of 255
levels in each band) or another. OUT gets the maps and a picture.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.features import rasterize

from geoseg.assess.instances import match_segments
from geoseg.assess.overlap import BACKGROUND, OverlapTable, segment_key
from geoseg.cli import geoseg

SHOWN = 360
ALIKE = 12
COLOURS = ((255, 255, 255), (255, 210, 0))


def mapped(image: Path, model: str, target: Path) -> gpd.GeoDataFrame:
    """Polygons of a whole scene."""
    done = CliRunner().invoke(
        geoseg,
        ["map", str(image), "--model", model, "--gsd", "model", "-o", str(target),
         "--overwrite", "-q"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return gpd.read_file(target)


def numbers(polygons: gpd.GeoDataFrame, image: Path) -> np.ndarray:
    """(row, col) number of the polygon on the scene's grid, 0 = none."""
    with rasterio.open(image) as file:
        shape, affine, crs = file.shape, file.transform, file.crs
        valid = file.dataset_mask() > 0
    shapes = polygons.to_crs(crs.to_wkt()).geometry
    if shapes.empty:
        return np.zeros(shape, np.int32)
    pairs = ((geometry, k) for k, geometry in enumerate(shapes, 1))
    return rasterize(pairs, out_shape=shape, transform=affine, dtype="int32") * valid


def fates(truth: np.ndarray, found: np.ndarray, pixels: np.ndarray) -> Counter[str]:
    """What became of each drawn field; ``pixels`` (band, row, col) on the same grid."""
    count: Counter[str] = Counter()
    sizes = np.bincount(found.ravel())
    for drawn in np.unique(truth[truth > 0]):
        own = truth == drawn
        area = own.sum()
        shares = np.bincount(found[own], minlength=len(sizes))
        shares[0] = 0
        best = int(shares.argmax())
        if shares[best] > 0.5 * (area + sizes[best] - shares[best]):
            count["right"] += 1
        elif shares.sum() < area / 2:
            count["missed"] += 1
        elif shares[best] < area / 2:
            count["in pieces"] += 1
        else:
            others = np.bincount(truth[(found == best) & ~own])
            others[:1] = 0
            if not others.any():
                count["in one with no field"] += 1
                continue
            colours = [pixels[:, truth == k].mean(1) for k in (drawn, others.argmax())]
            alike = np.abs(colours[0] - colours[1]).max() < ALIKE
            count["in one, alike" if alike else "in one, unlike"] += 1
    return count


def figures(table: OverlapTable, extent: np.ndarray) -> dict[str, float]:
    """Of one scene or several; ``extent``: pixels in both and in either."""
    quality = match_segments(table).quality()
    return {
        "extent IoU": round(extent[0] / extent[1], 4),
        "PQ": round(quality.pq, 4),
        "F1": round(quality.rq, 4),
        "drawn": quality.tp + quality.fn,
        "found": quality.tp + quality.fp,
        "right": quality.tp,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table, extent, pictures = OverlapTable.empty(), np.zeros(2), []
    fate: Counter[str] = Counter()
    for number, image in enumerate(sorted((args.data / "train").glob("*.tif"))[-3:]):
        polygons = mapped(image, args.model, args.out / f"{image.stem}.gpkg")
        found = numbers(polygons, image)
        truth = numbers(gpd.read_file(image.with_name(f"{image.stem}_fields.gpkg")), image)
        keys = [
            segment_key(np.where(ids > 0, 1, 255), ids + 100_000 * number, none=BACKGROUND)
            for ids in (truth, found)
        ]
        own = OverlapTable.of(*keys)
        both = np.array([((truth > 0) & (found > 0)).sum(), ((truth > 0) | (found > 0)).sum()])
        print(image.stem, json.dumps(figures(own, both)))
        table, extent = table + own, extent + both
        with rasterio.open(image) as file:
            own_fate = fates(truth, found, file.read())
        print(image.stem, dict(sorted(own_fate.items())))
        fate += own_fate
        pictures.append(panels(image, truth, found))
    print("all", json.dumps(figures(table, extent)))
    print("all", dict(sorted(fate.items())))
    picture = Image.fromarray(np.concatenate(pictures, 1))
    small = picture.convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=20, dither=Image.Dither.NONE
    )
    small.save(args.out / "fields-model.png", optimize=True)


def panels(image: Path, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A scene with the outlines of what was drawn, above what was found."""
    step = -(-max(truth.shape) // SHOWN)
    with rasterio.open(image) as file:
        photo = file.read(out_shape=(3, truth.shape[0] // step, truth.shape[1] // step))
    both = []
    for ids, colour in zip((truth, found), COLOURS):
        thin = ids[step // 2 :: step, step // 2 :: step][: photo.shape[1], : photo.shape[2]]
        edge = np.zeros(thin.shape, bool)
        edge[1:] |= thin[1:] != thin[:-1]
        edge[:, 1:] |= thin[:, 1:] != thin[:, :-1]
        canvas = np.full((SHOWN + 8, SHOWN + 8, 3), 255, np.uint8)
        rows, cols = thin.shape
        canvas[:rows, :cols] = np.where(edge[..., None], np.uint8(colour), photo.transpose(1, 2, 0))
        both.append(canvas)
    return np.concatenate(both, 0)


if __name__ == "__main__":
    main()
