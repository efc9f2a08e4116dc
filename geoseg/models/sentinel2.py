"""Sentinel-2 products: processing level, radiometric offset, and the names of bands.

Level and offset are found in a scene's metadata or file name, or stated by a person. What
had to be assumed is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from geoseg.errors import ModelError

__all__ = ["ORDER_12", "ORDER_13", "WAVELENGTHS_UM", "Product", "band_key", "describe_product"]

Level = Literal["l1c", "l2a"]

ORDER_13 = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07"),
    *("B08", "B8A", "B09", "B10", "B11", "B12"),
)
"""Bands of a whole L1C product, in the order in which tools stack them."""

ORDER_12 = tuple(name for name in ORDER_13 if name != "B10")
"""Bands of a whole L2A product: the cirrus band B10 is left out."""

WAVELENGTHS_UM = dict(
    zip(
        ORDER_13,
        (0.443, 0.492, 0.560, 0.665, 0.704, 0.741, 0.783, 0.833, 0.865, 0.945, 1.374, 1.614, 2.202),
        strict=True,
    )
)
"""Centres of the bands in µm (Sentinel-2A's MSI)."""

OFFSET_SINCE = "20220125"
"""Sensing date from which processing baseline 04.00 adds 1000 to every digital number."""

_COMMON = {
    "coastal": "B01",
    "aerosol": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge": "B05",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "narrownir": "B8A",
    "rededge4": "B8A",
    "nir09": "B09",
    "watervapour": "B09",
    "cirrus": "B10",
    "swir": "B11",
    "swir1": "B11",
    "swir16": "B11",
    "swir2": "B12",
    "swir22": "B12",
}


@dataclass(frozen=True, kw_only=True)
class Product:
    """``level`` l1c or l2a; ``offset`` is what digital numbers must be shifted by."""

    level: Level
    offset: int


def band_key(name: str) -> str:
    """One spelling for a band's name: ``B2``, ``b02``, ``S2_B02``, ``blue`` give ``B02``.

    Names that are not Sentinel-2's come back in lower case without separators.

    >>> [band_key(name) for name in ("B2", "blue", "Red Edge 1", "B8A", "thermal")]
    ['B02', 'B02', 'B05', 'B8A', 'thermal']
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    match = re.fullmatch(r"(?:s2|sentinel2|msi|sr|toa)?b(?:and)?0?([1-9]|1[0-2]|8a)", plain)
    if match:
        return "B" + match[1].upper().rjust(2, "0")
    return _COMMON.get(plain, plain)


def describe_product(
    tags: Mapping[str, str],
    level: str = "auto",
    offset: int | None = None,
) -> tuple[Product, list[str]]:
    """Level and offset, and what had to be assumed. Raises ModelError on an unknown level."""
    if level not in ("auto", "l1c", "l2a"):
        raise ModelError(f"level {level!r} is unknown: use l1c, l2a or auto")
    text = " ".join(f"{key}={value}" for key, value in sorted(tags.items())).lower()
    warnings: list[str] = []
    found: Level
    if level != "auto":
        found = "l1c" if level == "l1c" else "l2a"
    elif re.search(r"l1c|level-?1c", text):
        found = "l1c"
    elif re.search(r"l2a|level-?2a|surface[ _]reflectance|sen2cor", text):
        found = "l2a"
    else:
        found = "l2a"
        warnings.append(
            "the file doesn't say its processing level: L2A (surface reflectance) is assumed; "
            "state it with --set level=l1c or level=l2a"
        )
    if offset is None:
        offset, doubt = _offset(text)
        warnings += doubt
    return Product(level=found, offset=offset), warnings


def _offset(text: str) -> tuple[int, list[str]]:
    """-1000 from processing baseline 04.00 on; by the sensing date where that is not said."""
    stated = re.search(r"(?:boa_add_offset|radio_add_offset)[^=]*=(-?\d+)", text)
    if stated:
        return int(stated[1]), []
    baseline = re.search(r"(?:_n|baseline[^=]*=)(\d{2})\.?(\d{2})(?!\d)", text)
    if baseline:
        return (-1000 if int(baseline[1]) >= 4 else 0), []
    # a name may hold other digits too: only a plausible sensing date counts
    dates: Sequence[str] = re.findall(
        r"(?<!\d)(20(?:1[5-9]|[2-4]\d)[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12]\d|3[01]))", text
    )
    if dates and min(re.sub(r"[-_]", "", date) for date in dates) >= OFFSET_SINCE:
        return -1000, [
            f"sensed on {dates[0]}: the offset of -1000 of processing baseline 04.00 is taken "
            "off; state it with --set offset=0 where it was taken off before"
        ]
    return 0, []
