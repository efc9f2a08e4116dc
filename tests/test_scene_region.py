"""Areas of interest: a window and a mask that no window can round otherwise."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.scene.region import Region

UTM = GeoBox((90, 120), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
PIXELS = GeoBox((90, 120), Affine.identity(), None)


def centres(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel's centre."""
    col, row = np.meshgrid(np.arange(geobox.shape[1]) + 0.5, np.arange(geobox.shape[0]) + 0.5)
    a = geobox.affine
    return a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f


def test_a_box_on_pixel_edges_is_its_pixels() -> None:
    region = Region.open("500100,4999500,500300,4999900")
    assert region.window(UTM) == Window(10, 10, 40, 20)
    assert region.mask(region.window(UTM), UTM).all()


def test_a_centre_on_the_edge_belongs_to_it() -> None:
    region = Region.box((3.5, 2.5, 6.5, 4.5))
    assert region.window(PIXELS) == Window(2, 3, 3, 4)
    assert region.mask(region.window(PIXELS), PIXELS).all()
    tiny = Region.box((3.6, 2.6, 6.4, 4.4))
    assert tiny.window(PIXELS) == Window(3, 4, 1, 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_mask_is_every_centre_in_the_polygon_in_any_window(data: st.DataObject) -> None:
    corner = st.tuples(st.integers(-20, 280), st.integers(-20, 220))
    points = data.draw(st.lists(corner, min_size=3, max_size=6, unique=True))
    # halves: many edges run exactly through centres
    parts = shapely.get_parts(shapely.make_valid(shapely.Polygon(np.array(points) / 2)))
    polygon = shapely.union_all(parts[shapely.get_type_id(parts) == 3])
    region = Region(polygon)
    x, y = centres(PIXELS)
    expected = shapely.intersects_xy(polygon, x, y)
    assume(not polygon.is_empty)
    whole = Window(0, 0, *PIXELS.shape)
    assert np.array_equal(region.mask(whole, PIXELS), expected)
    row, col = data.draw(st.integers(-5, 89)), data.draw(st.integers(-5, 119))
    window = Window(row, col, data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
    inside = window & whole
    here = inside.relative_to(window).slices
    assert np.array_equal(region.mask(window, PIXELS)[here], expected[inside.slices])
    if expected.any():
        smallest = region.window(PIXELS)
        outside = expected.copy()
        outside[smallest.slices] = False
        assert not outside.any()


@pytest.mark.parametrize(
    "affine",
    [
        UTM.affine,
        Affine(10, 0, 500_000, 0, 10, 4_999_100),
        Affine.translation(500_000, 5_000_000) @ Affine.rotation(25) @ Affine.scale(10, -10),
    ],
    ids=["north-up", "south-up", "rotated"],
)
def test_another_crs_is_followed_along_its_curved_edges(affine: Affine) -> None:
    geobox = GeoBox((90, 120), affine, "EPSG:32633")
    x, y = centres(geobox)
    back = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    lon, lat = back.transform(x, y)
    west, south, east, north = (np.quantile(v, q) for q in (0.2, 0.8) for v in (lon, lat))
    region = Region.box((west, south, east, north), crs="EPSG:4326")
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    mask = region.mask(Window(0, 0, 90, 120), geobox)
    assert (mask != inside).sum() <= 3  # an edge is straight to 0.05 pixels
    assert 0.3 < mask.mean() < 0.5


def test_a_long_edge_bends() -> None:
    # 20 degrees along a parallel: a straight line in UTM would be off by hundreds of pixels
    wide = GeoBox((1000, 2000), Affine(1000, 0, -500_000, 0, -1000, 6_200_000), "EPSG:32633")
    region = Region.box((5, 50, 25, 52), crs="EPSG:4326")
    x, y = centres(wide)
    lon, lat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    inside = (lon >= 5) & (lon <= 25) & (lat >= 50) & (lat <= 52)
    mask = region.mask(Window(0, 0, 1000, 2000), wide)
    assert inside.sum() > 200_000 and (mask != inside).sum() < 500


def test_vector_files_are_united(tmp_path: Path) -> None:
    boxes = [shapely.box(500_100, 4_999_500, 500_300, 4_999_900), shapely.Point(0, 0)]
    boxes.append(shapely.box(500_500, 4_999_500, 500_600, 4_999_900))
    frame = gpd.GeoDataFrame(geometry=boxes, crs="EPSG:32633")
    for name, crs in (("a.gpkg", "EPSG:32633"), ("b.geojson", "EPSG:4326"), ("c.fgb", 3857)):
        path = tmp_path / name
        frame.to_crs(crs).to_file(path)
        region = Region.open(path)
        assert region.window(UTM) == Window(10, 10, 40, 50)
        mask = region.mask(region.window(UTM), UTM)
        assert mask[:, :20].all() and not mask[:, 20:40].any() and mask[:, 40:].all()


def test_a_box_over_the_antimeridian() -> None:
    fiji = GeoBox((50, 60), Affine(1000, 0, 810_000, 0, -1000, 8_100_000), "EPSG:32760")
    x, y = centres(fiji)
    lon, _ = pyproj.Transformer.from_crs(32760, 4326, always_xy=True).transform(x, y)
    assert (lon > 0).any() and (lon < 0).any()
    mask = Region.open("179.9,-20,-179.8,-10,EPSG:4326").mask(Window(0, 0, 50, 60), fiji)
    assert np.array_equal(mask, (lon >= 179.9) | (lon <= -179.8))
    with pytest.raises(InputError, match="west < east"):
        Region.open("2,0,1,1")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0,0,1,1", "no pixel of the scene"),
        ("0,0,1,1,EPSG:4326", "no pixel of the scene"),
        ("500001,4999991,500002,4999992", "no pixel of the scene"),
        ("0,1,1,0", "south < north"),
        ("0,0,nan,1", "south < north"),
        ("0,0,1,1,EPSG:none", "no CRS"),
        ("nothing.gpkg", "neither a file nor a box"),
    ],
)
def test_what_has_no_pixel_is_an_error(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Region.open(text).window(UTM)


def test_files_without_polygons_and_scenes_without_crs(tmp_path: Path) -> None:
    path = tmp_path / "points.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=4326).to_file(path)
    with pytest.raises(InputError, match="no polygon"):
        Region.open(path)
    (tmp_path / "text.gpkg").write_text("text")
    with pytest.raises(InputError, match="not a vector file"):
        Region.open(tmp_path / "text.gpkg")
    with pytest.raises(InputError, match="has no CRS"):
        Region.open("0,0,1,1,EPSG:4326").window(PIXELS)


def test_a_job_tells_regions_apart_by_every_vertex() -> None:
    drawn = [(col, col * col) for col in range(40)]
    other = Region(shapely.Polygon([*drawn[:-1], (39, 1000)]), "EPSG:4326", "field.gpkg")
    assert repr(Region(shapely.Polygon(drawn), "EPSG:4326", "field.gpkg")) != repr(other)
    assert repr(Region.open("0,0,1,1")) == repr(Region.open("0, 0, 1, 1"))
