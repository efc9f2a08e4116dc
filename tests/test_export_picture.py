"""The picture: drawn from any shapes and names, its colours where the map has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import OutputError
from geoseg.export.picture import MapPicture, draw_map, round_length_m
from geoseg.legend import Category, Legend

LEGEND = Legend(
    (
        Category(0, "water $x^2$ $", "#419bdf"),
        Category(1, "a very long name of a class that goes on", "#397d49"),
        Category(2, "</text>&\n\x07", "#88b053"),
    )
)


def picture(rows: int = 60, cols: int = 90, legend: Legend = LEGEND) -> MapPicture:
    ids = np.arange(rows * cols).reshape(rows, cols) % (len(legend) + 1)
    return MapPicture(
        scene_rgb=np.full((rows, cols, 3), 90, np.uint8),
        category_id=np.where(ids == len(legend), 255, ids).astype(np.uint8),
        legend=legend,
        title="Title $1",
        hectares={c.id: 1234.5 * c.id for c in legend},
        width_m=900,
        note="© somebody & co",
    )


@pytest.mark.parametrize("shape", [(60, 90), (1, 1), (400, 20), (20, 400)])
def test_any_shape_is_drawn_and_the_same_bytes_again(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    for name in ("a.png", "b.png"):
        draw_map(picture(*shape), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with rasterio.open(tmp_path / "a.png") as file:
        assert min(file.shape) > 300
    with pytest.raises(OutputError, match="--overwrite"):
        draw_map(picture(), tmp_path / "a.png")


def test_the_map_is_in_the_legends_colours(tmp_path: Path) -> None:
    one = picture(30, 30)
    one.category_id[:] = 1
    draw_map(one, tmp_path / "a.png")
    with rasterio.open(tmp_path / "a.png") as file:
        pixels = file.read([1, 2, 3]).reshape(3, -1).T
    assert (pixels == LEGEND.by_id(1).rgb).all(axis=1).mean() > 0.2
    assert not (pixels == LEGEND.by_id(0).rgb).all(axis=1).any()


def test_two_hundred_classes_fit(tmp_path: Path) -> None:
    many = Legend(tuple(Category(i, f"class {i}", f"#{i:02x}8040") for i in range(200)))
    draw_map(picture(300, 300, many), tmp_path / "a.png")


@given(st.floats(1e-3, 1e8))
def test_scale_bars_have_round_lengths(longest: float) -> None:
    length = round_length_m(longest)
    assert 0.39 * longest < length <= longest
    assert f"{length:e}"[0] in "125"
