"""Parcel tables, fiboa, zones, land cover and change."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.cli import geoseg
from geoseg.errors import InputError
from geoseg.legend import Category, Legend
from geoseg.products.change import change_codes, change_matrix
from geoseg.products.fields import check_fiboa, parcel_table, to_fiboa
from geoseg.products.terrain import cover_table
from geoseg.products.zones import zone_table

LEGEND = Legend((Category(0, "water", "#0000ff"), Category(3, "crops", "#00ff00")), "two")


def squares(crs: str | None = "EPSG:32633") -> gpd.GeoDataFrame:
    shapes = [shapely.box(500000 + x, 5300000, 500000 + x + 100, 5300100) for x in (300, 0)]
    return gpd.GeoDataFrame({"score": [0.5, 0.9]}, geometry=shapes, crs=crs)


def test_a_square_of_one_hectare() -> None:
    table = parcel_table(squares())
    assert table["parcel_id"].tolist() == [1, 2]
    assert table["score"].tolist() == [0.9, 0.5], "numbered from west to east"
    # UTM's scale at its central meridian is 0.9996: ground is larger than the grid says
    np.testing.assert_allclose(table["area_ha"], 1 / 0.9996**2, rtol=1e-5)
    np.testing.assert_allclose(table["perimeter_m"], 400 / 0.9996, rtol=1e-5)
    np.testing.assert_allclose(table["shape_index"], 2 / np.sqrt(np.pi), rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["EPSG:4326", "EPSG:3857", "EPSG:3035", "EPSG:2263"]))
def test_sizes_do_not_depend_on_the_crs(crs: str) -> None:
    fields = squares()
    if crs == "EPSG:2263":  # feet, New York: move the squares there
        fields = fields.set_crs("EPSG:32618", allow_override=True).translate(84000, -790000)
        fields = gpd.GeoDataFrame(geometry=fields)
    one, other = parcel_table(fields), parcel_table(fields.to_crs(crs))
    np.testing.assert_allclose(one["area_ha"], other["area_ha"], rtol=1e-5)


def test_cover_is_the_name_with_most_pixels() -> None:
    counts = iter([{"maize": 3, "grass": 3}, {}])
    table = parcel_table(squares(), lambda shape: next(counts))
    assert table["cover"].tolist()[0] == "grass"
    assert table["cover_share"].tolist()[0] == 0.5
    assert table["cover"].isna().tolist() == [False, True]


def test_no_crs_is_an_error() -> None:
    with pytest.raises(InputError, match="without a CRS"):
        parcel_table(squares(None))


def test_fiboa_holds_and_is_read_back(tmp_path) -> None:
    table = to_fiboa(parcel_table(squares()), observed=datetime(2021, 7, 1, 12))
    table.to_parquet(tmp_path / "fields.parquet")
    again = gpd.read_parquet(tmp_path / "fields.parquet")
    again["category"] = [list(value) for value in again["category"]]
    check_fiboa(again)
    assert again["determination:datetime"].iloc[0] == datetime(2021, 7, 1, 12, tzinfo=UTC)
    assert again.crs == "EPSG:4326"
    np.testing.assert_allclose(again["metrics:area"], 1e4 / 0.9996**2, rtol=1e-5)
    with pytest.raises(InputError, match="no determination method 'guessed'"):
        to_fiboa(parcel_table(squares()), observed=datetime(2021, 7, 1), method="guessed")
    again["id"] = "1"
    with pytest.raises(InputError, match="used twice"):
        check_fiboa(again)


def test_the_file_has_the_types_that_fiboas_validator_wants(tmp_path: Path) -> None:
    squares().to_file(tmp_path / "fields.gpkg")
    arguments = ["fields", tmp_path / "fields.gpkg", "--fiboa", tmp_path / "f.parquet"]
    run = CliRunner().invoke(geoseg, [*map(str, arguments), "--observed", "2021-07-01"])
    assert run.exit_code == 0, run.output
    schema = pq.read_schema(tmp_path / "f.parquet")
    required = [name for name in schema.names if not schema.field(name).nullable]
    assert required == ["id", "collection", "geometry"]
    text = {"id", "collection", "determination:method", "determination:details"}
    assert {str(schema.field(name).type) for name in text} == {"string"}
    named = json.loads(schema.metadata[b"collection"])["schemas"]["geoseg"]
    assert named == [
        "https://vecorel.org/specification/v0.1.0/schema.yaml",
        "https://fiboa.org/specification/v0.3.0/schema.yaml",
    ]
    assert len(gpd.read_parquet(tmp_path / "f.parquet")) == 2


@pytest.mark.parametrize(
    ("fiboa", "observed", "words"),
    [
        ("f.parquet", "summer", "give a date such as"),
        ("f.gpkg", "2021-07-01", "fiboa is written as .parquet"),
        ("both.parquet", "2021-07-01", "are one file"),
    ],
)
def test_what_cant_be_fiboa_leaves_nothing(
    tmp_path: Path, fiboa: str, observed: str, words: str
) -> None:
    squares().to_file(tmp_path / "fields.gpkg")
    arguments = ["fields", tmp_path / "fields.gpkg", "-o", tmp_path / "both.parquet"]
    arguments += ["--fiboa", tmp_path / fiboa, "--observed", observed]
    run = CliRunner().invoke(geoseg, [str(a) for a in arguments])
    assert run.exit_code != 0 and words in run.output, run.output
    assert [path.name for path in tmp_path.iterdir()] == ["fields.gpkg"]


def test_an_empty_table_has_the_same_columns() -> None:
    full, empty = parcel_table(squares()), parcel_table(squares().iloc[:0])
    assert list(full.columns) == list(empty.columns)
    assert len(empty) == 0


maps = st.integers(0, 10_000).map(
    lambda seed: np.random.default_rng(seed).choice(np.array([0, 3, 255], np.uint8), (2, 13, 17))
)


@settings(max_examples=40, deadline=None)
@given(maps, st.integers(1, 17))
def test_change_adds_up_however_it_is_cut(pair: np.ndarray, width: int) -> None:
    one, other = pair
    cuts = [(one[:, k : k + width], other[:, k : k + width], 100.0) for k in range(0, 17, width)]
    found = change_matrix(cuts, LEGEND, LEGEND)
    both = (one != 255) & (other != 255)
    assert found.area_ha.sum() == pytest.approx(both.sum() / 100)
    assert found.area_ha[0, 1] == pytest.approx(((one == 0) & (other == 3)).sum() / 100)
    assert found.changed_ha == pytest.approx((both & (one != other)).sum() / 100)
    assert found.lost_ha == pytest.approx(((one == 255) ^ (other == 255)).sum() / 100)
    codes = change_codes(one, other)
    assert ((codes == 65535) == ~both).all()
    changed = both & (one != other)
    assert (codes[changed] == one[changed].astype(int) * 256 + other[changed]).all()
    assert found.table().loc["total", "total"] == pytest.approx(both.sum() / 100)


def test_change_back_and_forth_is_the_transpose() -> None:
    one, other = np.random.default_rng(3).choice(np.array([0, 3], np.uint8), (2, 20, 20))
    there = change_matrix([(one, other, 1.0)], LEGEND, LEGEND).area_ha
    back = change_matrix([(other, one, 1.0)], LEGEND, LEGEND).area_ha
    np.testing.assert_allclose(there, back.T)


@settings(max_examples=30, deadline=None)
@given(maps, st.integers(0, 100))
def test_zones_add_up_to_the_map(pair: np.ndarray, seed: int) -> None:
    categories = pair[0]
    zones = np.random.default_rng(seed).integers(0, 3, categories.shape).astype(np.int32)
    table = zone_table([(zones, categories, 1e4)], ["a", "b"], LEGEND)
    for number, name in enumerate("ab", 1):
        row = table[table["zone"] == name].iloc[0]
        here = categories[zones == number]
        assert row["area_ha"] == pytest.approx((here != 255).sum())
        assert row["unmapped_ha"] == pytest.approx((here == 255).sum())
        assert row["crops_ha"] == pytest.approx((here == 3).sum())
        if row["area_ha"]:
            assert row["water_share"] + row["crops_share"] == pytest.approx(1)


def test_cover_and_unknown_categories() -> None:
    table = cover_table([(np.array([[0, 3, 3, 255]], np.uint8), 2500.0)], LEGEND)
    assert table["area_ha"].tolist() == [0.25, 0.5]
    assert table["share"].tolist() == pytest.approx([1 / 3, 2 / 3])
    for call in (
        lambda: cover_table([(np.array([[7]], np.uint8), 1.0)], LEGEND),
        lambda: change_matrix([(np.array([[7]], np.uint8),) * 2 + (1.0,)], LEGEND, LEGEND),
        lambda: zone_table(
            [(np.ones((1, 1), np.int32), np.array([[7]], np.uint8), 1.0)], ["a"], LEGEND
        ),
    ):
        with pytest.raises(InputError, match=r"lacks categories of the map: \[7\]"):
            call()
