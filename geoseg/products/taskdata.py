"""A prescription as ISO 11783-10 task data: what the terminal of a sprayer reads.

A grid of type 1: one byte per cell, the code of a treatment zone; each zone has one rate.
The grid lies along the meridians, as the standard wants it: cells of a prescription that
follows the rows are looked up at the grid's own cell centres.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.errors import InputError
from geoseg.products.measure import to_crs

if TYPE_CHECKING:
    from geoseg.products.weeds import Prescription

__all__ = ["TaskData", "to_taskdata"]

_VOLUME_PER_AREA = "0001"
"""DDI 1, setpoint volume per area application rate, 0.01 mm³/m² a unit."""

_UNITS_PER_L_HA = 10_000
"""1 l/ha = 100 mm³/m² = 10,000 units of 0.01 mm³/m²."""

_MAX_ZONES = 254


@dataclass(frozen=True)
class TaskData:
    """``xml`` is TASKDATA.XML, ``grid`` the bytes of GRD00001.BIN; ``codes`` (row, col) are
    the grid's zone codes from south to north, ``rates_l_ha`` the rate of each code.
    """

    xml: bytes
    grid: bytes
    codes: NDArray[np.uint8]
    rates_l_ha: dict[int, float]


def to_taskdata(prescription: Prescription, name: str, cell_m: float | None = None) -> TaskData:
    """Task data of a prescription; cells are ``cell_m`` wide, by default half of its own.

    Code 0 is outside: nothing is sprayed there, nor where the position is lost. Raises
    InputError when there are more different rates than codes.
    """
    cells = prescription.cells
    crs = CRS.from_user_input(cells.crs)
    rates = np.unique(cells["rate_l_ha"].to_numpy())
    if len(rates) > _MAX_ZONES:
        raise InputError(f"{len(rates)} different rates: task data can tell {_MAX_ZONES} apart")
    code_of = {float(rate): code for code, rate in enumerate(rates, 1)}
    shapes = to_crs(cells.geometry.to_numpy(), crs, CRS("EPSG:4326"))
    west, south, east, north = shapely.total_bounds(shapes)
    size = cell_m or min(prescription.rule.cell_m) / 2
    lat = np.deg2rad((south + north) / 2)
    # metres of a degree on WGS 84, series to the second harmonic: 1e-6 is plenty for cells
    north_step = size / (111_132.954 - 559.822 * np.cos(2 * lat))
    east_step = size / (111_412.84 * np.cos(lat) - 93.5 * np.cos(3 * lat))
    rows = max(int(np.ceil((north - south) / north_step)), 1)
    cols = max(int(np.ceil((east - west) / east_step)), 1)
    y = south + (np.arange(rows) + 0.5) * north_step
    x = west + (np.arange(cols) + 0.5) * east_step
    centres = shapely.points(*np.meshgrid(x, y))  # (row, col), from the south
    which, cell = shapely.STRtree(shapes).query(centres.ravel(), predicate="intersects")
    flat = np.zeros(rows * cols, np.uint8)
    values = cells["rate_l_ha"].to_numpy()
    flat[which] = [code_of[float(values[k])] for k in cell]
    codes = flat.reshape(rows, cols)
    rate_of = {0: 0.0} | {code: rate for rate, code in code_of.items()}
    root = _document(name, rate_of, (south, west, north_step, east_step), codes.shape)
    ET.indent(root)
    xml = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return TaskData(xml, codes.tobytes(), codes, rate_of)


def _document(
    name: str,
    rates: dict[int, float],
    origin: tuple[float, float, float, float],
    shape: tuple[int, ...],
) -> ET.Element:
    root = ET.Element(
        "ISO11783_TaskData",
        VersionMajor="3",
        VersionMinor="3",
        ManagementSoftwareManufacturer="geoseg",
        ManagementSoftwareVersion="0.1.0",
        DataTransferOrigin="1",
    )
    short = name[:32]  # the standard's longest designator
    ET.SubElement(root, "PFD", A="PFD1", C=short, D="0")
    task = ET.SubElement(root, "TSK", A="TSK1", B=short, E="PFD1", G="1", H="0", I="0", J="0")
    for code, rate in rates.items():
        zone = ET.SubElement(task, "TZN", A=str(code), B=f"{rate:g} l/ha")
        value = str(round(rate * _UNITS_PER_L_HA))
        ET.SubElement(zone, "PDV", A=_VOLUME_PER_AREA, B=value)
    south, west, north_step, east_step = origin
    ET.SubElement(
        task,
        "GRD",
        A=f"{south:.9f}",
        B=f"{west:.9f}",
        C=f"{north_step:.12f}",
        D=f"{east_step:.12f}",
        E=str(shape[1]),
        F=str(shape[0]),
        G="GRD00001",
        H=str(shape[0] * shape[1]),
        I="1",
    )
    return root
