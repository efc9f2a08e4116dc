"""Categories and legends: what the numbers of a map mean.

>>> legend = Legend.open("dynamic_world")
>>> legend.by_id(0).name
'water'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError

__all__ = ["NODATA_CATEGORY", "Category", "Legend", "count_categories"]

NODATA_CATEGORY = 255
"""category_id of pixels that were not mapped."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True, slots=True)
class Category:
    """One class: ``id`` 0 to 254, ``name``, ``colour`` as ``#rrggbb``, thing or stuff."""

    id: int
    name: str
    colour: str
    isthing: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.id < NODATA_CATEGORY:
            raise InputError(f"category {self.name!r} has id {self.id}: ids are 0 to 254")
        if not _COLOUR.fullmatch(self.colour):
            raise InputError(f"category {self.name!r} has colour {self.colour!r}: use #rrggbb")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as three integers, 0 to 255."""
        value = int(self.colour[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255


@dataclass(frozen=True)
class Legend:
    """The categories of a map, ids unique, ordered by id."""

    categories: tuple[Category, ...]
    name: str = ""

    def __post_init__(self) -> None:
        ids = [category.id for category in self.categories]
        if len(set(ids)) != len(ids):
            raise InputError(f"legend {self.name!r} uses an id twice: {sorted(ids)}")
        ordered = tuple(sorted(self.categories, key=lambda category: category.id))
        object.__setattr__(self, "categories", ordered)

    def __iter__(self) -> Iterator[Category]:
        return iter(self.categories)

    def __len__(self) -> int:
        return len(self.categories)

    @cached_property
    def _by_id(self) -> dict[int, Category]:
        return {category.id: category for category in self.categories}

    def by_id(self, category_id: int) -> Category:
        """The category with this id; raises InputError when there is none."""
        try:
            return self._by_id[category_id]
        except KeyError:
            raise InputError(
                f"legend {self.name!r} has no category {category_id}: it has {sorted(self._by_id)}"
            ) from None

    def by_name(self, name: str) -> Category:
        """The category with this name; raises InputError when there is none."""
        for category in self.categories:
            if category.name == name:
                return category
        names = [category.name for category in self.categories]
        shown = ", ".join(names if len(names) < 30 else [*names[:12], "...", names[-1]])
        raise InputError(f"legend {self.name!r} has no category {name!r}: it has {shown}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        return {
            "name": self.name,
            "categories": [
                {"id": c.id, "name": c.name, "colour": c.colour, "isthing": c.isthing}
                for c in self.categories
            ],
        }

    def to_stac(self) -> list[dict[str, Any]]:
        """The classes as STAC's classification extension 2.0 has them."""
        return [
            {"value": c.id, "name": _stac_name(c.name), "title": c.name, "description": c.name,
             "color_hint": c.colour[1:].upper()}
            for c in self.categories
        ]  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Legend:
        """From what ``to_dict`` gives; raises InputError on what it can't read."""
        try:
            categories = tuple(
                Category(int(c["id"]), str(c["name"]), str(c["colour"]), bool(c.get("isthing")))
                for c in data["categories"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not a legend ({type(error).__name__}: {error}): give "
                '{"categories": [{"id": 1, "name": "water", "colour": "#0000ff"}, ...]}'
            ) from error
        return cls(categories, str(data.get("name", "")))

    @classmethod
    def open(cls, name_or_path: str | Path) -> Legend:
        """A legend that comes with geoseg, by name, or any legend file (JSON)."""
        packaged = resources.files("geoseg") / "legends" / f"{name_or_path}.json"
        path = Path(name_or_path)
        try:
            text = packaged.read_text() if packaged.is_file() else path.read_text()
            return cls.from_dict(json.loads(text))
        except InputError as error:
            raise InputError(f"{name_or_path}: {error}") from error
        except FileNotFoundError:
            known = ", ".join(cls.names())
            raise InputError(f"no legend {name_or_path!r}: use a file or one of {known}") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{name_or_path}: not a legend file: {error}") from error

    @staticmethod
    def names() -> list[str]:
        """Names of the legends that come with geoseg."""
        folder = resources.files("geoseg") / "legends"
        return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))


def count_categories(category_id: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each category_id (row, col), 256 of them.

    >>> count_categories(np.zeros((2, 3), np.uint8))[:2].tolist()
    [6, 0]
    """
    counts = np.zeros(256, np.int64)
    # a few rows at a time: NumPy makes eight bytes of each pixel first
    for row in range(0, len(category_id), 64):
        counts += np.bincount(category_id[row : row + 64].ravel(), minlength=256)
    return counts


def _stac_name(text: str) -> str:
    """Letters, digits, _ and -: all that the classification extension allows in a name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text)
    return plain.strip("_") or "class"
