"""Land cover of a Sentinel-2 scene, stage by stage, and then in one call.

python examples/terrain.py [SCENE] [FOLDER]
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import geoseg


def main(scene_path: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = geoseg.open_scene(scene_path)
    model = geoseg.load_model("terrain")
    print(geoseg.plan(scene, model))

    result = geoseg.segment(scene, model)
    polygons = geoseg.to_polygons(result)
    print(polygons.groupby("category").area_m2.sum().div(1e4).round(2).rename("hectares"))
    geoseg.write_vector(polygons, folder / "stages.gpkg", legend=result.legend, overwrite=True)
    geoseg.write_raster(result, str(folder / "stages.tif"), overwrite=True)

    # the same for a scene of any size, in bounded memory, resumable
    outputs = [str(folder / "terrain.gpkg"), str(folder / "terrain.tif")]
    request = geoseg.MapRequest(outputs=outputs, overwrite=True)
    print(geoseg.map_scene(scene, model, request))


if __name__ == "__main__":
    bundled = resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"
    chosen = sys.argv[1] if len(sys.argv) > 1 else str(bundled)
    main(chosen, Path(sys.argv[2] if len(sys.argv) > 2 else "example"))
