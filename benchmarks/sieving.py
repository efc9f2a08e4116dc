"""What taking small segments out of a raster costs: CPU time and peak memory by its height.

    python benchmarks/sieving.py

A raster of n1 (smooth land cover with 1 % of noise, see vectorize.py), 16,384 px wide, is made
while it is read, sieved and then vectorized: one stream each, in a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from vectorize import Repeated, raster, versions

from geoseg.polygons import Labels, polygon_batches
from geoseg.sieving import Sieving
from geoseg.vectorize.stream import VectorizeOptions
from geoseg.vectorize.strips import ArraySource
from geoseg.vectorize.table import Attributes

WIDTH = 16384
STEPS = {
    "as it is": Sieving(),
    "segments below 20 px merged": Sieving(min_area_m2=20),
    "holes below 20 px filled, then that": Sieving(min_area_m2=20, fill_holes_m2=20),
    "segments below 20 px dropped": Sieving(min_area_m2=20, drop_small=True),
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(step: str, height: int, smooth: bool) -> None:
    """Print a row: CPU seconds of sieving and of vectorizing, peak memory above the imports."""
    base = raster("n1", 1024)
    options = VectorizeOptions(multi=False, smooth=smooth)
    for warm in (Sieving(min_area_m2=3, fill_holes_m2=3), Sieving(min_area_m2=3, drop_small=True)):
        small = Labels(ArraySource(base[:64, :64].copy()), Attributes()).sieved(warm)
        list(polygon_batches(small, options))
    before = peak_mb()
    start = time.process_time()
    labels = Labels(Repeated(base, (height, WIDTH)), Attributes()).sieved(STEPS[step])
    sieved = time.process_time()
    rows = sum(batch.num_rows for batch in polygon_batches(labels, options))
    spent = time.process_time()
    rate = height * WIDTH / 1e6 / max(sieved - start, 1e-3)
    sieving = f"{sieved - start:.0f} s ({rate:.0f} Mpx/s)" if STEPS[step] else "-"
    name = f"{step}, smoothed" if smooth else step
    print(
        f"| {name} | {height} | {rows:,} | {sieving} | {spent - sieved:.0f} s | "
        f"{peak_mb() - before:.0f} MB |",
        flush=True,
    )


def main(arguments: Sequence[str]) -> None:
    if arguments:
        measure(arguments[0], int(arguments[1]), arguments[2] == "smooth")
        return
    print(versions())
    print("| n1, 16,384 px wide | height | polygons | sieving | vectorizing | peak |")
    print("|---|---|---|---|---|---|")
    for height in (4096, 16384):
        for step in STEPS:
            subprocess.run([sys.executable, __file__, step, str(height), "plain"], check=True)
        subprocess.run([sys.executable, __file__, "as it is", str(height), "smooth"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
