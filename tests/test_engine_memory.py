"""Law 10: memory stays under the projection and doesn't grow with the scene."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytestmark = pytest.mark.slow


def peak(folder: Path, side: int) -> dict[str, float]:
    """The whole path over a file of ``side`` px: what GDAL keeps of it counts, too."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from scenes import land_cover, write_scene
    finally:
        sys.path.remove(str(BENCHMARKS))
    pixels = land_cover(1024).astype(np.uint8)
    scene = write_scene(folder / f"{side}.tif", pixels, "zstd", side)
    outputs = folder / str(side)
    outputs.mkdir()
    call = [sys.executable, str(BENCHMARKS / "engine.py"), "one", "memory", str(scene)]
    done = subprocess.run([*call, str(outputs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_memory_is_that_of_blocks_not_of_the_scene(tmp_path: Path) -> None:
    small, large = peak(tmp_path, 4096), peak(tmp_path, 12288)
    for found in (small, large):
        assert found["peak_mb"] <= 1.1 * found["projected_mb"]
    # nine times the pixels, in rows that are three times as long: 1.03 to 1.07, and 1.16 where
    # outputs were written in memory that grew with a map's width
    assert large["peak_mb"] <= 1.12 * small["peak_mb"]
