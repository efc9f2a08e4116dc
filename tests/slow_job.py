"""One job of many small blocks with a slow segmenter, as a program that can be killed.

python slow_job.py FOLDER WORKERS [SCHEDULER]
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toys import MeanSegmenter, array_scene

from geoseg.errors import GeosegError
from geoseg.models.segmenter import TileResult
from geoseg.pipeline import MapRequest, RunOptions, map_scene


@dataclass(frozen=True)
class SlowSegmenter(MeanSegmenter):
    """Long enough per tile that a kill lands in the middle."""

    def predict(self, pixels: NDArray[Any], valid: NDArray[np.bool_]) -> list[TileResult]:
        time.sleep(0.03)
        return super().predict(pixels, valid)


def main(folder: str, workers: int, scheduler: str | None = None) -> int:
    pixels = np.random.default_rng(11).integers(0, 255, (1, 260, 240), dtype=np.uint8)
    request = MapRequest(
        outputs=[str(Path(folder) / "map.gpkg"), str(Path(folder) / "map.tif")],
        report=str(Path(folder) / "report.json"),
    )
    options = RunOptions(
        workers=workers, scheduler=scheduler, block_tiles=1, batch=1, min_area_m2=500.0
    )
    try:
        map_scene(array_scene(pixels), SlowSegmenter(), request, options)
    except GeosegError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
