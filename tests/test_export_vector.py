"""Vector outputs: what is written is what was given, styled, reproducible, whole or absent."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod

from geoseg.errors import BlockError, LockedError, OutputError
from geoseg.export.target import check_output, kind_of, written_beside
from geoseg.export.vector import VectorOptions, write_vector
from geoseg.legend import Category, Legend
from geoseg.polygons import polygonize

HOSTILE = (
    """</script><script>alert("1")</script> & 'x'; DROP TABLE "map"; -- ]]> {{x}} """
    "\u202e\u05e2\u05d1\u05e8 \U0001f33e"
)
LEGEND = Legend(
    (
        Category(0, "water", "#419bdf"),
        Category(1, HOSTILE, "#397d49", isthing=True),
        Category(7, "ségments & <b>", "#88b053"),
    ),
    name="test",
)
FORMATS = (".gpkg", ".parquet", ".fgb", ".geojson", ".shp")


def polygons(rows: int = 30, crs: object = "EPSG:32721") -> gpd.GeoDataFrame:
    ids = [c.id for c in LEGEND]
    categories = [LEGEND.by_id(ids[i % 3]) for i in range(rows)]
    squares = [shapely.box(4e5 + 20 * i, 7e6, 4e5 + 20 * i + 10, 7e6 + 10 + i) for i in range(rows)]
    if rows > 3:
        squares[2] = shapely.MultiPolygon([squares[2], shapely.box(0, 0, 1, 1)])
    return gpd.GeoDataFrame(
        {
            "segment_id": np.arange(rows, dtype="int64"),
            "category_id": np.array([c.id for c in categories], "uint8"),
            "category": [c.name for c in categories],
            "isthing": [c.isthing for c in categories],
            "instance_id": pd.array(
                [i if c.isthing else None for i, c in enumerate(categories)], "Int64"
            ),
            "score": np.linspace(0, 1, rows, dtype="float32"),
            "area_m2": np.full(rows, 100.0),
            "perimeter_m": np.full(rows, 40.0),
            "pixels": np.full(rows, 2**40, "int64"),
            "on_edge": [i % 2 == 0 for i in range(rows)],
        },
        geometry=squares,
        crs=crs,
    )


def batches(frame: gpd.GeoDataFrame, size: int = 7) -> Iterator[pa.RecordBatch]:
    table = pa.table(frame.to_arrow(index=False, geometry_encoding="WKB"))
    yield from table.to_batches(size)


def names_in(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_path_that_would_be_an_archives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="with '!' can't be written"):
        write_vector(polygons(), tmp_path / "well!.gpkg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_read_is_what_was_written(tmp_path: Path, suffix: str) -> None:
    frame = polygons()
    path = tmp_path / f"a b #?&| ü{suffix}"
    assert write_vector(frame, path, legend=LEGEND) == len(frame)
    assert path.is_file()
    back = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
    assert set(back.geom_type) <= {"MultiPolygon", "Polygon"}
    back = back.sort_values("segment_id", ignore_index=True)  # FlatGeobuf sorts by place
    expected = frame.to_crs(4326) if suffix == ".geojson" else frame
    short = {"category_id": "cat_id", "instance_id": "inst_id", "perimeter_m": "perim_m"}
    for column in frame.columns.drop("geometry"):
        name = short.get(column, column) if suffix == ".shp" else column
        a, b = frame[column], back[name]
        if column == "category" and suffix == ".shp":  # a dbf field ends at 254 bytes
            b = b.str.strip()
        assert a.isna().tolist() == b.isna().tolist()
        keep = a.notna()
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-6)
        else:
            assert a[keep].astype(object).tolist() == b[keep].astype(object).tolist(), column
    tolerance = 1e-8 if suffix == ".geojson" else 0
    gap = shapely.hausdorff_distance(
        shapely.normalize(expected.geometry.values), shapely.normalize(back.geometry.values)
    )
    assert gap.max() <= tolerance


@pytest.mark.parametrize("suffix", FORMATS)
def test_batches_and_frames_give_the_same_rows(tmp_path: Path, suffix: str) -> None:
    frame = polygons()
    for name, table in (("a", frame), ("b", batches(frame))):
        write_vector(table, tmp_path / f"{name}{suffix}", legend=LEGEND, crs=frame.crs)
    read = gpd.read_parquet if suffix == ".parquet" else gpd.read_file
    first, second = read(tmp_path / f"a{suffix}"), read(tmp_path / f"b{suffix}")
    assert first.equals(second)


@pytest.mark.parametrize("suffix", FORMATS)
def test_two_runs_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    facts = {"model": "m", "source": HOSTILE}
    for run in ("1", "2"):
        (tmp_path / run).mkdir()
        path = tmp_path / run / f"map{suffix}"
        write_vector(polygons(), path, legend=LEGEND, provenance=facts)
    for name in names_in(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    if suffix == ".shp":  # its table has a date of its own
        assert (tmp_path / "1" / "map.dbf").read_bytes()[1:4] == bytes([80, 1, 1])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("source", ["frame", "batches", "nothing"])
def test_an_empty_layer_has_its_type_and_columns(tmp_path: Path, suffix: str, source: str) -> None:
    empty = polygons(0)
    table = {"frame": empty, "batches": batches(empty), "nothing": iter(())}[source]
    path = tmp_path / f"map{suffix}"
    assert write_vector(table, path, legend=LEGEND, crs="EPSG:32721") == 0
    if suffix == ".parquet":
        geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
        assert geo["columns"]["geometry"]["geometry_types"] == ["MultiPolygon"]
        assert len(gpd.read_parquet(path)) == 0
        return
    info = pyogrio.read_info(path, layer="map", force_feature_count=True)
    assert info["features"] == 0
    if suffix != ".geojson":  # an empty collection has no type
        assert info["geometry_type"] in {"MultiPolygon", "Polygon"}
        assert len(info["fields"]) == 10


def test_a_geopackage_is_styled_indexed_described(tmp_path: Path) -> None:
    path = tmp_path / "Ségments 1.gpkg"
    write_vector(polygons(), path, legend=LEGEND, provenance={"model": HOSTILE, "date": "x"})
    assert len(gpd.read_file(path, layer=path.stem)) == 30
    assert names_in(tmp_path) == {path.name}  # reading leaves nothing beside it either
    assert pyogrio.read_info(path, layer=path.stem)["layer_metadata"]["model"] == HOSTILE
    with sqlite3.connect(path) as db:
        row = db.execute(
            "SELECT f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML "
            "FROM layer_styles"
        ).fetchone()
        assert row[:4] == ("", "Ségments 1", "geom", 1)
        assert db.execute("PRAGMA user_version").fetchone() == (10300,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {r[0] for r in db.execute("SELECT name FROM sqlite_master")}
        assert "rtree_Ségments 1_geom" in tables
        alias = dict(db.execute("SELECT column_name, name FROM gpkg_data_columns"))
        assert alias["area_m2"] == "Area (m²)"
    db.close()
    from xml.etree import ElementTree as ET

    tree = ET.fromstring(row[4].partition("\n")[2])
    labels = [c.get("label") for c in tree.iter("category")]
    assert labels == [c.name for c in LEGEND]


def test_geoparquet_rows_have_their_boxes(tmp_path: Path) -> None:
    path = tmp_path / "map.parquet"
    write_vector(polygons(200), path, provenance={"model": "m"})
    meta = pq.read_metadata(path).metadata
    column = json.loads(meta[b"geo"])["columns"]["geometry"]
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32721}
    assert json.loads(meta[b"geoseg"]) == {"model": "m"}
    np.testing.assert_allclose(column["bbox"], polygons(200).total_bounds)
    frame = gpd.read_parquet(path, bbox=(400000, 6999999, 400051, 7000001))
    assert sorted(frame["segment_id"]) == [0, 1, 2]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failing_source_leaves_nothing_and_comes_through(tmp_path: Path, suffix: str) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(polygons())
        raise BlockError("scene.tif: window (0, 0) can't be read")

    with pytest.raises(BlockError, match="window"):
        write_vector(failing(), tmp_path / f"map{suffix}", crs=32721)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_interrupt_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    def stopped() -> Iterator[pa.RecordBatch]:
        yield from batches(polygons())
        raise KeyboardInterrupt

    path = tmp_path / f"map{suffix}"
    write_vector(polygons(), path)
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        write_vector(stopped(), path, crs=32721, overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == before


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_export_vector import polygons, write_vector, OutputError
frame = polygons(20000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write_vector(frame, sys.argv[1])
except OutputError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    code = FULL_DISK.format(tests=str(Path(__file__).parent))
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"map{suffix}")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout.startswith("refused"), run.stderr
    assert names_in(tmp_path) == set()


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    (tmp_path / "old.gpkg").write_text("x")
    (tmp_path / "folder.gpkg").mkdir()
    (tmp_path / "loop.gpkg").symlink_to("loop.gpkg")
    cases = {
        "no/such/map.gpkg": "create it",
        "old.gpkg": "--overwrite",
        "folder.gpkg": "is a folder",
        "loop.gpkg": "",
        "map.kml": "use one of",
        "map": "use one of",
    }
    for name, remedy in cases.items():
        with pytest.raises(OutputError, match=remedy):
            check_output(tmp_path / name)
    if os.path.exists("/dev/full"):
        (tmp_path / "device.gpkg").symlink_to("/dev/full")
        with pytest.raises(OutputError, match="not a plain file"):
            check_output(tmp_path / "device.gpkg", overwrite=True)
    with pytest.raises(OutputError, match=r"\.tif"):
        check_output(tmp_path / "map.gpkg", kinds=("raster",))
    assert kind_of("X.GPKG") == "vector"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="permissions"):
        check_output(tmp_path / "map.gpkg")


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "map.gpkg").write_text("old")
    (tmp_path / "map.gpkg").symlink_to("real/map.gpkg")
    write_vector(polygons(), tmp_path / "map.gpkg", overwrite=True)
    assert (tmp_path / "map.gpkg").is_symlink()
    assert len(gpd.read_file(tmp_path / "real" / "map.gpkg")) == 30


def test_an_overwritten_geopackage_loses_its_old_journal(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    write_vector(polygons(5), path)
    viewer = sqlite3.connect(path)
    viewer.execute("PRAGMA journal_mode=WAL")
    viewer.execute("CREATE TABLE edited (x)")
    viewer.commit()
    assert (tmp_path / "map.gpkg-wal").stat().st_size
    write_vector(polygons(9), path, overwrite=True)
    assert names_in(tmp_path) == {"map.gpkg"}
    assert len(gpd.read_file(path)) == 9
    assert viewer.execute("SELECT count(*) FROM map").fetchone() == (5,)  # still the old file
    viewer.close()


def test_a_second_writer_is_refused_and_a_killed_one_cleared(tmp_path: Path) -> None:
    path = tmp_path / "map.gpkg"
    with written_beside(path) as part:
        left = part.parent
        with pytest.raises(LockedError):
            write_vector(polygons(), path)
        part.write_text("whole")
    left.mkdir()
    (left / "map.gpkg-journal").write_text("of a killed run")
    write_vector(polygons(), path, overwrite=True)
    assert "map.gpkg" in names_in(tmp_path) and not left.exists()


def test_geojson_is_split_at_the_antimeridian(tmp_path: Path) -> None:
    box = shapely.box(-3e4, 0, 3e4, 4e4)
    crs = "+proj=tmerc +lon_0=180 +k=0.9996 +ellps=WGS84 +units=m"
    path = tmp_path / "map.geojson"
    write_vector(gpd.GeoDataFrame({"segment_id": [1]}, geometry=[box], crs=crs), path)
    feature = json.loads(path.read_text())["features"][0]
    assert "crs" not in json.loads(path.read_text())
    shape = shapely.geometry.shape(feature["geometry"])
    assert shape.is_valid and len(shape.geoms) == 2
    west, _, east, _ = shape.bounds
    assert (west, east) == (-180, 180)
    assert sum(part.area for part in shape.geoms) < 1
    wide = gpd.GeoDataFrame({"segment_id": [1]}, geometry=[shapely.box(170, 0, 190, 5)], crs=4326)
    write_vector(wide, path, overwrite=True)
    shape = shapely.geometry.shape(json.loads(path.read_text())["features"][0]["geometry"])
    assert shape.bounds == (-180, 0, 180, 5) and shape.area == pytest.approx(100)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(
        [("EPSG:3413", 0), ("EPSG:3031", 0), ("EPSG:3572", 0), ("EPSG:3832", 3339584.7238)]
    ),
    st.sampled_from([(0, 0), (0.5, 0.5), (0.3, 0), (0.3, 0.8)]),
    st.sampled_from([1000, 30_000]),
    st.integers(0, 999),
)
@example(("EPSG:3572", 0), (0.3, 0.3), 30_000, 0)  # GDAL kept a tenth of it
@example(("EPSG:3413", 0), (0.5, 0.5), 1000, 1)  # and lines here
def test_geojson_holds_all_ground_around_poles_and_the_antimeridian(
    place: tuple[str, float], off: tuple[float, float], size: int, seed: int
) -> None:
    """Vertices and edges on the pole, and on the antimeridian, among them."""
    crs, x = place
    labels = np.random.default_rng(seed).integers(0, 3, (5, 7)).astype(np.uint8)
    corner = Affine(size, 0, x - size * (3 + off[0]), 0, -size, size * (2 + off[1]))
    frame = polygonize(labels, transform=corner, crs=crs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.geojson"
        write_vector(frame, path)
        found = gpd.read_file(path)
    assert found.crs == "EPSG:4326" and len(found) == len(frame)
    assert set(found.geom_type) <= {"Polygon", "MultiPolygon"}
    assert found.is_valid.all()
    west, south, east, north = found.total_bounds
    assert west >= -180 and east <= 180 and south >= -90 and north <= 90
    geod = Geod(ellps="WGS84")
    area = [abs(geod.geometry_area_perimeter(shape)[0]) for shape in found.geometry]
    np.testing.assert_allclose(area, frame["area_m2"], rtol=2e-3)
    # as a map of the world sees it, too: no two parts lie over each other
    whole = shapely.union_all(found.geometry.to_numpy(), grid_size=1e-9)
    assert whole.area == pytest.approx(found.geometry.area.sum(), rel=1e-4)


def test_a_straight_edge_stays_straight_in_degrees(tmp_path: Path) -> None:
    box = shapely.box(5e5, 6e6, 6e5, 6.1e6)
    frame = gpd.GeoDataFrame({"segment_id": [1]}, geometry=[box], crs=32633)
    write_vector(frame, tmp_path / "map.geojson")
    back = gpd.read_file(tmp_path / "map.geojson").to_crs(32633).geometry[0]
    assert back.symmetric_difference(box).area / box.length < 0.02  # metres of mean offset


def test_without_a_crs_geojson_is_refused_and_others_keep_pixels(tmp_path: Path) -> None:
    frame = polygons(crs=None)
    with pytest.raises(OutputError, match="WGS 84"):
        write_vector(frame, tmp_path / "map.geojson")
    for suffix in (".gpkg", ".fgb", ".parquet"):
        write_vector(frame, tmp_path / f"map{suffix}")
    assert gpd.read_file(tmp_path / "map.gpkg").crs is None or "Undefined" in str(
        gpd.read_file(tmp_path / "map.gpkg").crs
    )
    assert gpd.read_parquet(tmp_path / "map.parquet").crs is None


def test_points_keep_their_type(tmp_path: Path) -> None:
    frame = polygons(6)
    frame.geometry = frame.geometry.centroid
    path = tmp_path / "points.gpkg"
    write_vector(frame, path, legend=LEGEND, options=VectorOptions(layer="weeds"))
    assert pyogrio.read_info(path, layer="weeds")["geometry_type"] == "Point"
    with sqlite3.connect(path) as db:
        assert "SimpleMarker" in db.execute("SELECT styleQML FROM layer_styles").fetchone()[0]
    db.close()


def test_pmtiles_hold_all_rows_and_a_style(tmp_path: Path) -> None:
    frame = polygons().drop(index=2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "map.pmtiles"
        assert write_vector(frame, path, legend=LEGEND) == 29
    assert (tmp_path / "a" / "map.pmtiles").read_bytes() == path.read_bytes()
    tiles = gpd.read_file(path, layer="map")
    assert set(tiles["segment_id"]) == set(frame["segment_id"])
    assert shapely.box(*tiles.to_crs(32721).total_bounds).intersects(frame.union_all())
    style = json.loads((tmp_path / "a" / "map.style.json").read_text())
    colours = style["layers"][0]["paint"]["fill-color"]
    assert [colours[i] for i in (2, 4, 6)] == [c.id for c in LEGEND]
    with pytest.raises(OutputError, match="no row"):
        write_vector(iter(()), tmp_path / "empty.pmtiles", crs=32721)


def test_reading_geoparquet_back_holds_a_little_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.bytes(1 << 16) for _ in range(32)]
    file = tmp_path / "large.parquet"
    with pq.ParquetWriter(file, pa.schema([("geometry", pa.binary())])) as writer:
        for _ in range(32):  # 64 MiB in 32 row groups
            writer.write_table(pa.table({"geometry": pa.array(rows, pa.binary())}))
    code = (
        "import sys, pathlib, pyarrow as pa; from geoseg.export.geoparquet import count; "
        "print(count(pathlib.Path(sys.argv[1]), 2), pa.default_memory_pool().max_memory())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    found, peak = map(int, done.stdout.split())
    assert found == 32 * 32
    assert peak < 24 << 20
