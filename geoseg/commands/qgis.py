"""geoseg qgis: the plugin for QGIS."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from email.utils import parseaddr
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import urlsplit

import click

from geoseg import __version__
from geoseg.errors import InputError, OutputError

__all__ = ["command"]

PLUGIN = "geoseg_processing"

_URLS = {  # of metadata.txt: labels of the package's project.urls
    "homepage": ("homepage", "documentation"),
    "repository": ("repository", "source", "sourcecode"),
    "tracker": ("issues", "tracker", "bugtracker"),
}
_NEEDED = ("author", "email", *_URLS)


@click.group(name="qgis")
def command() -> None:
    r"""The plugin that puts geoseg into QGIS' Processing toolbox.

    It runs geoseg in this environment: nothing is installed into QGIS.

    \b
    geoseg qgis install
    geoseg qgis zip -o geoseg_processing.zip
    """


def _identity() -> dict[str, str]:
    """Version, author, email and addresses, as the package itself states them."""
    found = {"version": __version__}
    try:
        stated = metadata.metadata("geoseg")
    except metadata.PackageNotFoundError:  # run from a folder, not installed
        return found
    author, email = parseaddr((stated.get_all("Author-email") or [""])[0])
    found |= {"author": (stated.get_all("Author") or [author])[0], "email": email}
    lines = [line.partition(",") for line in stated.get_all("Project-URL") or ()]
    urls = {label.strip().lower(): url.strip() for label, _, url in lines}
    for name, labels in _URLS.items():
        found[name] = next((urls[label] for label in labels if label in urls), "")
    return {name: value for name, value in found.items() if value}


def _files(identity: Mapping[str, str]) -> dict[str, bytes]:
    """The plugin's files by their names; ``identity`` goes into metadata.txt."""
    folder = resources.files("geoseg") / "plugin" / PLUGIN
    files = {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.is_file() and file.name != "command.json"
    }
    # QGIS and the repository read it with Python's configparser, where % is special
    lines = [f"{name}={value.replace('%', '%%')}\n" for name, value in identity.items()]
    files["metadata.txt"] += "".join(lines).encode()
    return files


def _publishable(settings: tuple[str, ...]) -> dict[str, str]:
    """What the plugin repository asks for; raises InputError for what is missing or malformed."""
    identity = _identity()
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _NEEDED or not value.strip() or not value.isprintable():
            raise InputError(f"--set {setting!r}: give one of {', '.join(_NEEDED)}, = and its text")
        identity[name] = value.strip()
    missing = [name for name in _NEEDED if name not in identity]
    if missing:
        raise InputError(
            f"the plugin repository asks for {', '.join(missing)}, which the installed package "
            f"doesn't state (project.urls and authors): give --set {missing[0]}=..."
        )
    for name in _URLS:
        url = urlsplit(identity[name])
        if url.scheme not in ("http", "https") or not url.netloc:
            raise InputError(f"{name} {identity[name]!r}: is no address: https://...")
    if "@" not in parseaddr(identity["email"])[1]:
        raise InputError(f"email {identity['email']!r}: is no address")
    if "/" in identity["author"]:
        raise InputError(f"author {identity['author']!r}: the repository takes no slash in it")
    return identity


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
        for name, content in _files(_identity()).items():
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
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=TEXT",
    help="author, email, homepage, repository or tracker, by default the package's own.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
def write_zip(output: Path, settings: tuple[str, ...], overwrite: bool) -> None:
    r"""Write the zip that QGIS installs and that the plugin repository takes.

    The repository opens homepage, repository and tracker: they have to be there.

    \b
    geoseg qgis zip -o geoseg_processing.zip
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already: use --overwrite or another name")
    files = _files(_publishable(settings))
    part = output.with_name(f".{output.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(f"{PLUGIN}/{name}", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{output}: can't be written: {error}") from error
    click.echo(str(output))
