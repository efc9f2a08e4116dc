"""geoseg qgis: the plugin for QGIS."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from importlib import resources
from pathlib import Path

import click

from geoseg.errors import OutputError

__all__ = ["command"]

PLUGIN = "geoseg_processing"


@click.group(name="qgis")
def command() -> None:
    r"""The plugin that puts geoseg into QGIS' Processing toolbox.

    It runs geoseg in this environment: nothing is installed into QGIS.

    \b
    geoseg qgis install
    geoseg qgis zip -o geoseg_processing.zip
    """


def _files() -> dict[str, bytes]:
    """The plugin's files by their names."""
    folder = resources.files("geoseg") / "plugin" / PLUGIN
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.is_file() and file.name != "command.json"
    }


def profile_folder() -> Path:
    """QGIS' default profile of this person."""
    home = Path.home()
    if sys.platform == "win32":
        root = Path(os.environ.get("APPDATA", home / "AppData" / "Roaming")) / "QGIS"
    elif sys.platform == "darwin":
        root = home / "Library" / "Application Support" / "QGIS"
    else:
        root = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share")) / "QGIS"
    found = [v for v in ("QGIS3", "QGIS4") if (root / v / "profiles").is_dir()]
    return root / (found[-1] if found else "QGIS3") / "profiles" / "default"


@command.command()
@click.option(
    "--profile", type=click.Path(path_type=Path), help="Folder of a QGIS profile; the default one."
)
def install(profile: Path | None) -> None:
    r"""Put the plugin into a QGIS profile; an older one is replaced.

    \b
    geoseg qgis install
    """
    folder = (profile or profile_folder()) / "python" / "plugins"
    target, fresh = folder / PLUGIN, folder / f".{PLUGIN}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name, content in _files().items():
            (fresh / name).write_bytes(content)
        call = [sys.executable, "-m", "geoseg.cli"]
        (fresh / "command.json").write_text(json.dumps(call), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    except OSError as error:
        raise OutputError(f"{folder}: the plugin can't be put there: {error}") from error
    click.echo(
        f"{target}\nStart QGIS and tick 'geoseg' under Plugins > Manage and Install Plugins."
    )


@command.command(name="zip")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .zip.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def write_zip(output: Path, overwrite: bool) -> None:
    r"""Write the zip that QGIS installs and that the plugin repository takes.

    \b
    geoseg qgis zip -o geoseg_processing.zip
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already: use --overwrite or another name")
    part = output.with_name(f".{output.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in _files().items():
                entry = zipfile.ZipInfo(f"{PLUGIN}/{name}", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{output}: can't be written: {error}") from error
    click.echo(str(output))
