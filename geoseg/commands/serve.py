"""geoseg serve: maps as a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geoseg.commands.view import page_from, page_options

__all__ = ["command"]


@click.command(name="serve")
@click.argument("files", metavar="MAP...", nargs=-1, required=True, type=click.Path(path_type=Path))
@page_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="On 127.0.0.1; 0: any free one.",
)
@click.option("--open", "show", is_flag=True, help="Open the browser.")
def command(files: tuple[Path, ...], port: int, show: bool, **options: Any) -> None:
    r"""Show MAPs in the browser, their tiles made when they are
    looked at. Ctrl-C ends it.

    The page can be reached from this machine only, and nothing can be changed through it.

    \b
    geoseg serve map.gpkg --scene scene.tif --open
    """
    from geoseg.export.serve import make_server

    server = make_server(page_from(files, options), port)
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
