"""Columns made without pandas are those of pyarrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from geoseg.arrow import arrow_array

KINDS = ["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@given(st.data(), st.sampled_from(KINDS), st.integers(0, 40), st.booleans(), st.booleans())
def test_columns_are_pyarrows(
    data: st.DataObject, kind: str, rows: int, spread: bool, some_missing: bool
) -> None:
    values = data.draw(arrays.arrays(kind, 2 * rows if spread else rows))
    values = values[::2] if spread else values
    missing = data.draw(arrays.arrays(bool, rows)) if some_missing else None
    made = arrow_array(values, missing)
    made.validate(full=True)
    wanted = pa.array(values, mask=missing, from_pandas=False)
    assert made.type == wanted.type
    assert made.is_null().equals(wanted.is_null())
    # NaN equals itself as text
    assert repr(made.to_pylist()) == repr(wanted.to_pylist())


def test_bytes_may_come_the_other_way_round() -> None:
    for kind in (">i2", ">u8", ">f8"):
        made = arrow_array(np.array([1, 300, 7], kind), np.array([False, False, True]))
        assert made.to_pylist() == [1, 300, None]


def test_vectorizing_to_geoparquet_imports_no_pandas(tmp_path: Path) -> None:
    raster = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8"}
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 3e5, 0, -10, 5e6)}
    with rasterio.open(raster, "w", **profile, **place) as out:
        out.write(np.kron([[1, 2], [3, 1]], np.ones((4, 4))).astype(np.uint8), 1)
    code = "import sys, atexit; atexit.register(lambda: print('pandas' in sys.modules)); "
    code += "from geoseg.cli import main; main()"
    command = [sys.executable, "-c", code, "polygonize", str(raster)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "map.parquet")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr
