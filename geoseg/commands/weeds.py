"""geoseg weeds: weed pressure, a prescription along the rows, stand counts."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from geoseg.errors import InputError
from geoseg.shapes import moved, read_shapes

if TYPE_CHECKING:
    import geopandas as gpd

    from geoseg.products.rows import Rows
    from geoseg.products.weeds import Prescription

TASKDATA = (".zip",)


@click.command(name="weeds")
@click.argument("polygons", metavar="POLYGONS")
@click.option("-o", "--output", metavar="FILE.gpkg", help="The cells, with pressure and rate.")
@click.option("--weed", default="weed", show_default=True, help="Category of the weeds.")
@click.option("--crop", default="crop", show_default=True, help="Category of the crop.")
@click.option("--outline", metavar="FILE", help="The field; by default the plants' hull.")
@click.option("--azimuth", type=float, help="Rows' direction, degrees from grid north; estimated.")
@click.option(
    "--cell", default="0.5x0.5", show_default=True, help="Metres along x across the rows."
)
@click.option("--buffer", type=float, default=0.1, show_default=True, help="Metres around a weed.")
@click.option("--smallest-spot", type=float, default=0.0, help="m² that a spot needs to count.")
@click.option("--dose", default="0:200", show_default=True, help="COVER:L_PER_HA,... rising.")
@click.option("--shapefile", metavar="FILE.shp", help="Rates for terminals, WGS 84.")
@click.option("--taskdata", metavar="FILE.zip", help="ISO 11783-10 task data.")
@click.option("--stand", metavar="FILE.csv", help="Plants per row and metre.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
def command(polygons: str, **options: Any) -> None:
    r"""What to spray where, from polygons of weeds and crop in metres.

    \b
    geoseg weeds plants.gpkg -o cells.gpkg --taskdata TASKDATA.zip --stand rows.csv
    """
    from geoseg.commands.classmap import write_table
    from geoseg.commands.fields import read_polygons
    from geoseg.export.facts import derived_facts
    from geoseg.export.vector import write_vector
    from geoseg.products.rows import stand_table
    from geoseg.products.weeds import SprayRule, prescribe

    _check_outputs(options)
    rule = SprayRule(
        cell_m=_pair(options["cell"]),
        buffer_m=options["buffer"],
        smallest_spot_m2=options["smallest_spot"],
        doses=_doses(options["dose"]),
    )
    plants = _in_metres(read_polygons(polygons, None), polygons)
    weeds = plants[plants["category"] == options["weed"]]
    crop = plants[plants["category"] == options["crop"]]
    if weeds.empty:
        there = ", ".join(sorted(map(str, plants["category"].dropna().unique()))) or "nothing"
        click.echo(
            f"geoseg: {polygons}: no polygon is {options['weed']!r} (there are {there}): nothing "
            "is sprayed; --weed names another category",
            err=True,
        )
    rows = _rows(crop, options)
    if rows is not None:
        click.echo(
            f"rows run at {rows.azimuth_deg:.1f}° from grid north, {rows.spacing_m:.3f} m apart "
            f"(strength {rows.strength:.2f})"
        )
        stand = stand_table(_points(crop), rows)
        steady = stand[stand["plants"] > 1]
        click.echo(
            f"{len(crop)} plants of {options['crop']} in {len(stand)} rows, "
            f"{steady['plants'].sum() / steady['length_m'].sum():.2f} per metre of row"
        )
        if options["stand"]:
            write_table(stand, options["stand"], overwrite=options["overwrite"])
    azimuth = options["azimuth"] if rows is None else rows.azimuth_deg
    if azimuth is None:
        raise InputError(f"{polygons}: too few plants of {options['crop']!r}: give --azimuth")
    found = prescribe(weeds, _outline(plants, options["outline"]), azimuth, rule)
    click.echo(
        f"{len(weeds)} weeds; {found.sprayed_share:.1%} of {found.cells['area_m2'].sum():,.1f} m² "
        f"sprayed, {found.litres:.2f} l, {found.saving:.1%} saved"
    )
    if options["output"]:
        told = ("weed", "crop", "azimuth", "cell", "buffer", "smallest_spot", "dose")
        facts = derived_facts(polygons, "weeds", {name: options[name] for name in told})
        write_vector(
            found.cells, options["output"], provenance=facts, overwrite=options["overwrite"]
        )
    if options["shapefile"]:
        _write_shapefile(found, options["shapefile"], options["overwrite"])
    if options["taskdata"]:
        _write_taskdata(found, Path(polygons).stem, options["taskdata"], options["overwrite"])


def _check_outputs(options: dict[str, Any]) -> None:
    """Raises OutputError before any work: all are written, or none."""
    from geoseg.commands.classmap import check_table
    from geoseg.export.target import check_file, check_output

    overwrite = options["overwrite"]
    check_table(options["stand"], overwrite=overwrite)
    for path in filter(None, (options["output"], options["shapefile"])):
        check_output(path, overwrite, kinds=("vector",))
    if options["taskdata"]:
        check_file(options["taskdata"], TASKDATA, overwrite)


def _pair(text: str) -> tuple[float, float]:
    try:
        along, across = (float(part) for part in text.lower().split("x"))
    except ValueError:
        raise InputError(f"--cell {text!r}: give metres such as 0.5x0.5") from None
    return along, across


def _doses(text: str) -> tuple[tuple[float, float], ...]:
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return tuple((float(cover), float(rate)) for cover, rate in pairs)
    except ValueError:
        raise InputError(f"--dose {text!r}: give COVER:RATE such as 0:80,0.3:150") from None


def _in_metres(frame: gpd.GeoDataFrame, path: str) -> gpd.GeoDataFrame:
    if "category" not in frame.columns:
        raise InputError(f"{path}: no column 'category': there are {', '.join(frame.columns)}")
    if frame.crs.is_projected and frame.crs.axis_info[0].unit_name == "metre":
        return frame
    if not (frame.crs.is_projected or frame.crs.is_geographic):
        raise InputError(f"{path}: has the local CRS '{frame.crs.name}', which leads to no metres")
    try:
        return moved(frame, frame.estimate_utm_crs(), path)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: lies nowhere that has a UTM zone: {error}") from error


def _points(frame: gpd.GeoDataFrame) -> Any:
    centres = frame.geometry.centroid
    return np.column_stack([centres.x, centres.y])


def _rows(crop: gpd.GeoDataFrame, options: dict[str, Any]) -> Rows | None:
    from geoseg.products.rows import find_rows

    try:
        return find_rows(_points(crop), azimuth_deg=options["azimuth"])
    except InputError:
        if options["azimuth"] is None:
            raise
        return None


def _outline(plants: gpd.GeoDataFrame, path: str | None) -> Any:
    import shapely

    if path is None:
        whole = shapely.make_valid(plants.geometry.to_numpy())
        return shapely.convex_hull(shapely.union_all(whole))
    frame = read_shapes(path)
    if frame.crs is None:
        raise InputError(f"{path}: its polygons have no CRS: give them one")
    shapes = moved(frame, plants.crs, path).geometry.to_numpy()
    return shapely.union_all(shapely.make_valid(shapes))


def _write_shapefile(found: Prescription, path: str, overwrite: bool) -> None:
    """Rates only, in WGS 84, names of at most ten characters: what terminals expect."""
    from geoseg.export.vector import write_vector

    cells = found.cells[["cell", "rate_l_ha", "pressure", "geometry"]].to_crs("EPSG:4326")
    cells = cells.rename(columns={"rate_l_ha": "RATE_L_HA", "pressure": "PRESSURE", "cell": "CELL"})
    write_vector(cells, path, overwrite=overwrite)


def _write_taskdata(found: Prescription, name: str, path: str, overwrite: bool) -> None:
    """A zip with the folder TASKDATA, as it goes onto a terminal's stick."""
    from geoseg.errors import OutputError
    from geoseg.export.target import written_beside
    from geoseg.products.taskdata import to_taskdata

    task = to_taskdata(found, name)
    with written_beside(path, overwrite, suffixes=TASKDATA) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for file, data in (("TASKDATA.XML", task.xml), ("GRD00001.BIN", task.grid)):
                archive.writestr(zipfile.ZipInfo(f"TASKDATA/{file}"), data)
        with zipfile.ZipFile(part) as archive:
            if archive.testzip() is not None:
                raise OutputError(f"{path}: reads back other than written: check the disk")
