"""geoseg serve: a map as a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoseg.commands.view import page_from, page_options

__all__ = ["command"]


@click.command(name="serve")
@click.argument("map_file", metavar="MAP", type=click.Path(path_type=Path))
@page_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="On 127.0.0.1; 0: any free one.",
)
@click.option("--open", "show", is_flag=True, help="Open the browser.")
def command(map_file: Path, port: int, show: bool, **options: Any) -> None:
    r"""Show MAP in the browser, its tiles made when they are looked at. Ctrl-C ends it.

    The page can be reached from this machine only, and nothing can be changed through it.

    \b
    geoseg serve map.gpkg --scene scene.tif --open
    """
    from geoseg.export.serve import make_server

    server = make_server(page_from(map_file, options), port)
    url = f"http://127.0.0.1:{server.server_port}/"
    click.echo(url)
    if show:
        click.launch(url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("ended", err=True)
    finally:
        server.server_close()
