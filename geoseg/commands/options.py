"""Options that several verbs share, spelt once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geoseg.errors import InputError

if TYPE_CHECKING:
    from geoseg.scene.reader import Scene

__all__ = [
    "VERBOSE",
    "open_scene_as",
    "parse_bands",
    "parse_bytes",
    "parse_part",
    "parse_resources",
    "plan_options",
    "run_options",
    "say_if_single",
    "scene_options",
    "security",
]

VERBOSE = "geoseg.verbose"
"""Where click's context keeps whether -v was given."""

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_bytes(text: str | None) -> int | None:
    """``8G``, ``500MB``, ``1e9`` as bytes; raises InputError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if not match:
        raise InputError(f"memory {text!r} is no size: give one such as 8GB or 500MB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_bands(text: str | None) -> list[str] | None:
    """``2,3,4`` or ``red,green,blue`` as a list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def parse_part(text: str | None) -> tuple[int, int] | None:
    """``2/5`` as (2, 5); raises InputError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"part {text!r}: give I/N with 1 <= I <= N, such as 2/5")
    return int(match[1]), int(match[2])


def parse_resources(text: str | None) -> dict[str, float]:
    """``GPU=1,MEM=8`` as a dictionary; raises InputError."""
    try:
        pairs = [pair.split("=") for pair in (text or "").split(",") if pair]
        return {name: float(count) for name, count in pairs}
    except ValueError:
        raise InputError(f"resources {text!r}: give NAME=NUMBER, such as GPU=1") from None


def security(files: str | None) -> Any:
    """A ``distributed.Security`` from ``CA,CERT,KEY``; None without; raises InputError."""
    if files is None:
        return None
    from distributed import Security

    paths = files.split(",")
    if len(paths) != 3:
        raise InputError(f"--tls {files!r}: give three PEM files: CA,CERT,KEY")
    authority, certificate, key = paths
    for path in paths:
        if not Path(path).is_file():
            raise InputError(f"--tls: {path} is no file: give three PEM files: CA,CERT,KEY")
    return Security(
        tls_ca_file=authority,
        tls_client_cert=certificate,
        tls_client_key=key,
        require_encryption=True,
    )


def open_scene_as(
    paths: Sequence[str], options: Mapping[str, Any], model: str | None = None
) -> Scene:
    """The scene with the options of ``scene_options``; bands are left to the model."""
    from dataclasses import replace

    from geoseg.scene.formats import Access
    from geoseg.scene.opening import SceneOptions, open_scenes, parse_nodata
    from geoseg.scene.regrid import gsd_for

    if options.get("combine") and any(Path(path).is_dir() for path in paths):
        from geoseg.folder import images_in

        paths = [str(path) for path in images_in(paths)]
    say_if_single(options.get("combine"), paths)
    wanted = SceneOptions(
        join=options.get("combine"),
        nodata=parse_nodata(options["nodata"]),
        assume_crs=options["assume_crs"],
        mask=options.get("mask") or None,
        access=Access(options["allow_vrt"], options["allow_network"]),
    )
    gsd = options.get("gsd", "scene")
    if gsd == "scene":
        return open_scenes(paths, wanted)
    if gsd == "model" and model is not None:
        from geoseg.models.catalogue import card_of, load_model

        card = card_of(model) or load_model(model).card
        return open_scenes(
            paths, replace(wanted, gsd_m=gsd_for(open_scenes(paths, wanted), card.gsd_m))
        )
    try:
        metres = float(gsd)
    except ValueError:
        raise InputError(f"--gsd {gsd!r}: give model, scene or metres such as 10") from None
    return open_scenes(paths, replace(wanted, gsd_m=metres))


def say_if_single(combine: str | None, paths: Sequence[str]) -> None:
    """A line on stderr where one file alone is to be stacked or laid side by side."""
    if combine and len(paths) == 1:
        click.echo(f"geoseg: --{combine}: {paths[0]} is one file: taken as the scene", err=True)


def _all(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


scene_options = _all(
    click.option(
        "-b",
        "--bands",
        metavar="LIST",
        help="Scene bands in the model's order: names or numbers from 1, e.g. 2,3,4,8.",
    ),
    click.option("--mask", multiple=True, help="Leave out: SCL, QA_PIXEL, a raster or polygons."),
    click.option(
        "--stack", "combine", flag_value="stack", help="Several files: their bands as one scene."
    ),
    click.option(
        "--mosaic", "combine", flag_value="mosaic", help="Several files: side by side as one scene."
    ),
    click.option(
        "--gsd",
        default="scene",
        metavar="model|scene|M",
        help="Resample on reading, by up to 4x, and map on that grid.",
    ),
    click.option(
        "--nodata", metavar="VALUE", help="Replaces the declared nodata; 'none': no nodata."
    ),
    click.option(
        "--assume-crs", metavar="CRS", help="CRS of a scene that has none, e.g. EPSG:32633."
    ),
    click.option("--pixel-coords", is_flag=True, help="Polygons in pixels where there is no CRS."),
    click.option("--allow-vrt", is_flag=True, help="Follow a VRT, which may read any other file."),
    click.option("--allow-network", is_flag=True, help="Read URLs and /vsi paths."),
)

plan_options = _all(
    click.option(
        "--aoi",
        metavar="BBOX|FILE",
        help="Map only xmin,ymin,xmax,ymax[,CRS] (the scene's own by default) or inside polygons.",
    ),
    click.option("--tile-size", type=int, metavar="PX", help="Pixels that the model sees at once."),
    click.option("--halo", type=int, metavar="PX", help="Context around a tile's core."),
    click.option("--batch", type=int, metavar="N", help="Tiles per forward pass."),
    click.option(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, mps or auto."
    ),
    click.option("--backend", default="auto", help="torch, openvino, onnxruntime or auto."),
    click.option("--precision", default="auto", help="fp32, bf16, fp16 or auto."),
    click.option("--threads", type=int, metavar="N", help="Threads of the network per process."),
    click.option("--memory", metavar="SIZE", help="What each process may use, e.g. 8GB."),
)

run_options = _all(
    click.option(
        "--workers", type=int, default=0, metavar="N", help="Worker processes; 0: threads."
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786."),
    click.option(
        "--tls",
        metavar="CA,CERT,KEY",
        help="Three PEM files for a tls:// scheduler.",
    ),
    click.option("--resources", metavar="K=N", help="What a worker must offer, e.g. GPU=1."),
    click.option("--dashboard", metavar="ADDRESS", help="Dask dashboard, e.g. 127.0.0.1:8787."),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _, given: ctx.meta.update({VERBOSE: given}),
        help="Errors with their traceback.",
    ),
)
