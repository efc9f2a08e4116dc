"""What the classic methods are worth on real scenes.

    python benchmarks/classic.py DATA accuracy --pictures docs/images
    python benchmarks/classic.py DATA tiling

How fast they are: ``classic_speed.py``. DATA is a folder with ``terrain`` (naip_nd_wetlands, parana_landsat8, nc_landsat7) and
``weeds`` (potato_uav). Points of water and land were drawn at random and judged by eye on
the false-colour picture; those on a shore, where the eye can't tell, are marked unsure.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import rasterio
from rasterio.features import rasterize

from geoseg.grid import TileGrid, Window
from geoseg.legend import Category, Legend
from geoseg.models.classic import parse
from geoseg.models.classic.objects import Labelled
from geoseg.pipeline import segment
from geoseg.scene.opening import open_scene
from geoseg.scene.reader import Scene

mpl.use("Agg")
import matplotlib.pyplot as plt

NAIP = "terrain/naip_nd_wetlands/m_4709963_se_14_1_20200831.tif"
PARANA = "terrain/parana_landsat8/LC08_L1TP_224078_20200518_20200518_01_RT"
CAROLINA = "terrain/nc_landsat7"
POTATO = "weeds/potato_uav"
CLASSES = ("developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment")


def picture(path: Path, panels: list[tuple[str, Any]], width: float = 4.2) -> None:
    """Panels side by side as one PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = panels[0][1].shape
    height = width * shape[0] / shape[1] + 0.35
    figure, axes = plt.subplots(1, len(panels), figsize=(width * len(panels), height))
    for axis, (title, image) in zip(np.atleast_1d(axes), panels, strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})
    plt.close(figure)


def coloured(labels: Any, legend: Legend) -> Any:
    image = np.full((*labels.shape, 3), 255, np.uint8)
    for category in legend:
        image[labels == category.id] = category.rgb
    return image


def stretched(bands: Any) -> Any:
    low, high = np.percentile(bands[:, bands.any(axis=0)], [1, 99], axis=1)
    span = (high - low)[:, None, None]
    return np.clip((bands - low[:, None, None]) / span, 0, 1).transpose(1, 2, 0)


def outlined(image: Any, ids: Any, colour: tuple[float, ...] = (1, 1, 0)) -> Any:
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    out = image.copy()
    out[edge] = colour
    return out


def water(data: Path, pictures: Path | None) -> None:
    scene = open_scene(data / NAIP, bands=["red=1", "green=2", "blue=3", "nir=4"])
    found = segment(scene, "otsu:ndwi").category_id
    with open(Path(__file__).with_name("classic_water_points.csv")) as file:
        rows = list(csv.DictReader(file))
    sure = [r for r in rows if r["class"] != "unsure"]
    right = [(found[int(r["row"]), int(r["col"])] == 1) == (r["class"] == "water") for r in sure]
    print(f"water, otsu:ndwi: {sum(right)}/{len(right)} points right ({np.mean(right):.3f}); "
          f"{sum(r['class'] == 'water' for r in sure)} are water, {len(rows) - len(sure)} unsure left out")  # fmt: skip
    if pictures:
        image = stretched(scene.read()[0][[3, 0, 1]].astype(float))
        legend = parse("otsu:ndwi").card.legend
        picture(pictures / "classic-water.png", [("near infrared, red, green", image), ("otsu:ndwi", coloured(found, legend))])  # fmt: skip


def parana(data: Path, pictures: Path | None) -> None:
    scene = open_scene(data / f"{PARANA}.TIF", bands=["blue=1", "green=2", "red=3"], nodata=0)
    spec = "multiotsu:(green-red)/(green+red):4"
    result = segment(scene, spec)
    found = result.category_id
    polygons = gpd.read_file(data / f"{PARANA}_polygons.gpkg").to_crs(str(scene.geobox.crs))
    total = right = 0
    for name, shape in zip(polygons["name"], polygons.geometry, strict=True):
        inside = rasterize([shape], found.shape, transform=scene.geobox.affine).astype(bool)
        is_water = found[inside & (found != 255)] == 3
        total += is_water.size
        right += int((is_water == (name == "water")).sum())
        print(f"  {name}: {is_water.mean():.3f} called water of {is_water.size} px")
    print(f"Parana, {spec}, top class against polygons: {right / total:.3f} of {total} px")
    if pictures:
        image = stretched(scene.read()[0][[2, 1, 0]].astype(float))
        part = slice(None, None, 4), slice(None, None, 4)
        picture(pictures / "classic-parana.png", [("red, green, blue", image[part]), (spec, coloured(found, result.legend)[part])])  # fmt: skip


def plants(data: Path, pictures: Path | None) -> None:
    scene = open_scene(data / POTATO / "ortho.tif")
    labels = gpd.read_file(data / POTATO / "labels.gpkg")
    truth = rasterize(labels.geometry, scene.shape, transform=scene.geobox.affine).astype(bool)
    for spec in ("otsu:exg", "li:exg", "otsu:vari"):
        result = segment(scene, spec)
        found = result.category_id == 1
        both, either = (found & truth).sum(), (found | truth).sum()
        print(f"plants, {spec}: IoU {both / either:.3f}, precision {both / found.sum():.3f}, "
              f"recall {both / truth.sum():.3f}")  # fmt: skip
        if pictures and spec == "otsu:exg":
            part = slice(1500, 2300), slice(1700, 2500)
            image = scene.read()[0].transpose(1, 2, 0)[part] / 255.0
            picture(pictures / "classic-plants.png", [("drone, 2.2 m", image), ("otsu:exg", coloured(result.category_id[part], result.legend)), ("labelled", outlined(image, truth[part]))], 3.6)  # fmt: skip


def land_cover(data: Path, pictures: Path | None) -> None:
    scene = open_scene(data / CAROLINA / "landsat_multiband.tif")
    with rasterio.open(data / CAROLINA / "strata.tif") as source:
        strata = source.read(1)
    pixels, valid = scene.read()
    known = valid & (strata >= 1) & (strata <= 7)
    classes = np.where(known, strata - 1, 255).astype(np.uint8)
    row, col = np.indices(classes.shape)
    train = (row // 64 + col // 64) % 2 == 0  # squares of 1.8 km, every other one
    test = known & ~train
    clusters = segment(scene, "kmeans:k=14").category_id
    votes = np.zeros((256, 7), int)
    np.add.at(votes, (clusters[known & train], classes[known & train]), 1)
    matched = votes.argmax(axis=1)[clusters]
    print(f"land cover, kmeans:k=14 matched on every other square: "
          f"{(matched == classes)[test].mean():.3f} on the others")  # fmt: skip
    fit, _ = parse("objects:size=5,rounds=3,compactness=0.3").for_scene(scene)
    objects = fit.described(fit.observe(pixels, valid))
    colours = ("#b5443c", "#e0b84c", "#c9d97c", "#9c8a5a", "#2f6b34", "#2b7bba", "#d9d4c5")
    legend = Legend(tuple(Category(i, n, c) for i, (n, c) in enumerate(zip(CLASSES, colours))))
    card = fit.card
    samples = []
    for tile in TileGrid(scene.shape, card.tile_size, card.halo, card.divisor):
        inside = tile.read & scene.window
        given = np.full(tile.read.shape, 255, np.uint8)
        given[inside.relative_to(tile.read).slices] = np.where(train, classes, 255)[inside.slices]
        samples.append(Labelled(tile, *scene.read(tile.read), given))
    model = objects.train(samples, legend)
    found = segment(scene, model).category_id
    right = (found == classes)[test].mean()
    most = np.bincount(classes[test]).max() / test.sum()
    print(f"land cover, objects + random forest, same split: {right:.3f} "
          f"(always the commonest class: {most:.3f}); {model.trained_on} objects")  # fmt: skip
    print("  importances: " + ", ".join(f"{n} {w:.3f}" for n, w in model.importances[:6]))
    if pictures:
        image = stretched(pixels[[3, 2, 1]].astype(float) * valid)
        panels = [("bands 4, 3, 2", image), ("k-means, matched", coloured(np.where(valid, matched, 255), legend)), ("objects, random forest", coloured(found, legend)), ("1996 map", coloured(classes, legend))]  # fmt: skip
        picture(pictures / "classic-land-cover.png", panels, 3.2)


def gallery(data: Path, pictures: Path) -> None:
    """A picture per family of methods, of one piece of the wetlands."""
    whole = open_scene(data / NAIP, bands=["red=1", "green=2", "blue=3", "nir=4"])
    part = slice(150, 450), slice(400, 800)
    image = stretched(whole.read()[0][[3, 0, 1]].astype(float))[part]

    def panel(spec: str) -> tuple[str, Any]:
        result = segment(whole, spec)
        if "instance_id" in result.names:
            return spec, outlined(image, result.instance_id[part])
        return spec, coloured(result.category_id[part], result.legend)

    for name, specs in {
        "threshold": ["otsu:ndwi", "multiotsu:ndvi:4", "sauvola:b1:window=51"],
        "edges": [
            "sobel:b1:threshold=0.06",
            "canny:b1:sigma=2,low=0.03,high=0.08",
            "contours:b1:sigma=2,low=0.03,high=0.08",
        ],  # fmt: skip
        "watershed": ["watershed:b1:sigma=3,spacing=12", "watershed:ndwi:on=distance,spacing=10"],
        "regions": [
            "grow:b1,b2,b4:sigma=2,spacing=12",
            "felzenszwalb:scale=60",
            "quadtree:b1,b4:split=0.15,merge=0.03",
        ],  # fmt: skip
        "clusters": ["kmeans:k=5", "gmm:k=5", "slic:size=12"],
    }.items():
        panels = [panel(spec) for spec in specs]
        picture(pictures / f"classic-{name}.png", [("near infrared, red, green", image), *panels], 3.4)  # fmt: skip


METHODS = ("otsu:{}", "multiotsu:{}:3", "triangle:{}", "li:{}", "sauvola:{}:window=31",
           "sobel:{}", "canny:{}:low=0.02,high=0.05", "contours:{}:low=0.02,high=0.05",
           "watershed:{}:sigma=2", "grow:{}", "quadtree:{}", "felzenszwalb:{}:scale=20",
           "slic:size=10,rounds=2", "kmeans:k=5", "minibatch:k=5", "gmm:k=4")  # fmt: skip


def tiling(data: Path, only: str) -> None:
    """Pixels that differ between tilings, on real scenes."""
    scenes = {
        "naip_nd_wetlands": (data / NAIP, "b1"),
        "nc_landsat7": (data / CAROLINA / "landsat_multiband.tif", "b4"),
        "parana_landsat8": (data / f"{PARANA}.TIF", "b3"),
        "potato_uav": (data / POTATO / "ortho.tif", "b2"),
    }
    for name, (path, band) in scenes.items():
        if only not in name:
            continue
        scene = open_scene(path, nodata=0 if "parana" in name else None)
        if name == "potato_uav":  # 37 Mpx: a piece of it
            scene = cut(scene, Window(1500, 1500, 1800, 2000))
        for template in METHODS:
            spec = template.format(band)
            begin = time.perf_counter()
            maps = [tiled(scene, spec, *how) for how in ((512, 1), (200, 2))]
            differ = sum(int((maps[0][n] != maps[1][n]).sum()) for n in maps[0])
            print(f"{name} {spec}: {differ} of {maps[0]['category_id'].size} px differ "
                  f"({time.perf_counter() - begin:.0f} s)", flush=True)  # fmt: skip


def tiled(scene: Scene, spec: str, core: int, block_tiles: int) -> dict[str, Any]:
    """Categories and ids, with cores of about ``core`` pixels, so many to a block's side."""
    card = parse(spec).card
    size = -(-core // card.divisor) * card.divisor + 2 * card.halo
    result = segment(scene, spec, tile_size=size, block_tiles=block_tiles)
    return {n: getattr(result, n) for n in ("category_id", "instance_id") if n in result.names}


def cut(scene: Scene, window: Window) -> Scene:
    """A piece of a scene as a file of its own."""
    folder = Path(tempfile.mkdtemp())
    pixels, _ = scene.read(window)
    profile = {"driver": "GTiff", "count": len(pixels), "dtype": scene.dtype,
               "height": window.height, "width": window.width, "crs": str(scene.geobox.crs),
               "transform": scene.geobox[window.slices].affine}  # fmt: skip
    with rasterio.open(folder / "piece.tif", "w", **profile) as out:
        out.write(pixels)
    return open_scene(folder / "piece.tif")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("what", choices=["accuracy", "tiling", "gallery"])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", default="", help="tiling: scenes with this in their name")
    chosen = parser.parse_args()
    if chosen.what == "accuracy":
        for task in (water, parana, plants, land_cover):
            task(chosen.data, chosen.pictures)
    elif chosen.what == "gallery":
        gallery(chosen.data, chosen.pictures)
    else:
        tiling(chosen.data, chosen.only)


if __name__ == "__main__":
    main()
