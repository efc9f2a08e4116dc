"""Confusion matrix of the terrain model against the experts' labels of the bundled scene.

python benchmarks/terrain.py
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import rasterio

import geoseg

CLOUD = 10


def main() -> None:
    demo = resources.files("geoseg") / "data" / "demo"
    scene = geoseg.open_scene(str(demo / "java_west_s2l2a.tif"))
    with rasterio.open(demo / "java_west_label.tif") as file:
        truth = file.read(1)
    result = geoseg.segment(scene, "terrain", workers=-1)
    labelled = (truth > 0) & (truth < CLOUD)
    names = [category.name for category in result.legend]
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (truth[labelled] - 1, result.category_id[labelled]), 1)
    width = max(map(len, names)) + 1
    print("rows: experts, columns: map\n")
    print(" " * width + "".join(f"{name[:9]:>10}" for name in names))
    for name, row in zip(names, matrix, strict=True):
        print(f"{name:{width}}" + "".join(f"{count:10,}" for count in row))
    agreement = np.trace(matrix) / matrix.sum()
    print(f"\n{agreement:.4f} of {matrix.sum():,} labelled pixels agree")


if __name__ == "__main__":
    main()
