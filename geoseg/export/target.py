"""Where an output goes: checked before any work, final only when it is whole.

A writer works in a folder of its own beside the output. Only when what it wrote has been
read back is it moved to its name; whatever else happens the folder goes, and with it the
journals and indexes that a format leaves.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from geoseg.errors import LockedError, OutputError

__all__ = [
    "FORMATS",
    "RASTERS",
    "VECTORS",
    "check_companion",
    "check_file",
    "check_output",
    "flush",
    "kind_of",
    "written_beside",
]

VECTORS = (".gpkg", ".parquet", ".fgb", ".geojson", ".shp", ".pmtiles")
RASTERS = (".tif", ".tiff")
FORMATS = {
    **dict.fromkeys(VECTORS, "vector"),
    **dict.fromkeys(RASTERS, "raster"),
    ".png": "picture",
    ".qgz": "project",
    ".html": "page",
    ".zarr": "map",
    ".json": "item",
}
"""What is written under which extension."""

_LITTLE_BYTES = 64 << 10
"""A disk with less room is full: what could not be written has been cut off again."""

_READ_BACK = ("vector", "project", "page")

_STALE = {
    # files that belong to an older output and would be read as part of the new one
    ".gpkg": ("-wal", "-shm", "-journal"),
    ".tif": (".aux.xml", ".ovr", ".msk"),
    ".tiff": (".aux.xml", ".ovr", ".msk"),
}


def kind_of(path: str | os.PathLike[str]) -> str:
    """``vector``, ``raster``, ``picture``, ``project``, ``page``, ``map`` or ``item``.

    Raises OutputError for an extension that geoseg doesn't write.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(
            f"{path}: geoseg does not write {suffix or 'files without an extension'}: "
            f"use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def check_output(
    path: str | os.PathLike[str], overwrite: bool = False, kinds: Sequence[str] = ()
) -> Path:
    """The real path that will be written, after the checks that need no pixel.

    A link is followed and its target replaced, never the link. Raises OutputError, naming
    the remedy, when the format is unknown (or not one of ``kinds``), the folder is missing
    or can't be written, the path is a folder or no plain file, or it exists and
    ``overwrite`` is False.
    """
    kind = kind_of(path)
    if kinds and kind not in kinds:
        wanted = ", ".join(suffix for suffix, of in FORMATS.items() if of in kinds)
        raise OutputError(f"{path}: is not one of {wanted}: use such an extension")
    return _checked(path, kind, overwrite)


def check_file(
    path: str | os.PathLike[str], suffixes: Sequence[str], overwrite: bool = False
) -> Path:
    """``check_output`` of what is no layer: a table, figures, task data, by extension."""
    if Path(path).suffix.lower() not in suffixes:
        raise OutputError(f"{path}: is not one of {', '.join(suffixes)}: use such an extension")
    return _checked(path, "file", overwrite)


def check_companion(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """``check_output`` of what an output brings along, a virtual raster among others."""
    if Path(path).suffix.lower() == ".vrt":
        return check_file(path, (".vrt",), overwrite)
    return check_output(path, overwrite)


def _checked(path: str | os.PathLike[str], kind: str, overwrite: bool) -> Path:
    """The real path, after the checks of the place it lies in."""
    try:
        target = Path(path).resolve()
        if "!" in str(target) and kind in _READ_BACK:
            # the library that writes tables takes what stands before it for an archive, and
            # would write beside the working directory instead
            raise OutputError(f"{path}: a path with '!' can't be written: choose another name")
        mode = target.stat().st_mode if target.exists() else None
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path}: can't be written: {error}") from error
    if not target.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {target.parent}: create it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path}: the folder {target.parent} can't be written: "
            "choose another or change its permissions"
        )
    if mode is not None and stat.S_ISDIR(mode) and kind != "map":
        raise OutputError(f"{path}: is a folder: give the name of a file in it")
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OutputError(f"{path}: is not a plain file: choose another name")
    if mode is not None and not overwrite:
        raise OutputError(f"{path}: exists already: use --overwrite or another name")
    if mode is not None and stat.S_ISDIR(mode) and not _is_zarr(target):
        raise OutputError(
            f"{path}: is a folder with other things in it, which would be lost: choose another name"
        )
    return target


def _is_zarr(folder: Path) -> bool:
    """Whether a folder is a map to be replaced, or empty."""
    return (folder / "zarr.json").is_file() or not any(folder.iterdir())


@contextlib.contextmanager
def written_beside(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    kinds: Sequence[str] = (),
    suffixes: Sequence[str] = (),
) -> Iterator[Path]:
    """The path to write to; what lies there at the end of the block becomes ``path``.

    Files that the block leaves next to it (a style, an index) are moved along, first. When
    the block raises, nothing is left. The folder's name depends on the output alone, so a
    killed run's folder is cleared by the next one. Raises OutputError as ``check_output``
    does (``check_file``, where ``suffixes`` are given), LockedError when another process is
    writing the same output.
    """
    if suffixes:
        target = check_file(path, suffixes, overwrite)
    else:
        target = check_output(path, overwrite, kinds)
    digest = hashlib.sha256(target.name.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = target.parent / f".geoseg-{digest}"
    with _locked(folder, target):
        try:
            yield folder / target.name
            _publish(folder, target)
        except (OSError, OutputError) as error:
            if _is_full(folder, error):
                raise OutputError(
                    f"{path}: could not be written: no space is left there: make room, or choose "
                    "another place"
                ) from error
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{path}: could not be written: {error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_full(folder: Path, error: Exception) -> bool:
    """Whether a disk without room is why: the libraries that write say so in riddles."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:
        return shutil.disk_usage(folder).free < _LITTLE_BYTES
    except OSError:
        return False


@contextlib.contextmanager
def _locked(folder: Path, target: Path) -> Iterator[None]:
    """An empty ``folder`` that is held by this process until the block ends."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: could not be written: {error}") from error
    with _open_folder(folder) as handle:
        if handle is not None:
            _hold(handle, target)
        for left in folder.iterdir():
            left.unlink()
        yield


@contextlib.contextmanager
def _open_folder(folder: Path) -> Iterator[int | None]:
    """A handle of the folder; None on Windows, which has none to lock or to flush."""
    if os.name == "nt":
        yield None
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _hold(handle: int, target: Path) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise LockedError(f"{target}: another geoseg is writing it: wait for it to end") from error


def flush(file: Path) -> None:
    """Have the disk keep what was written; raises OSError."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def _publish(folder: Path, target: Path) -> None:
    """Move all files of ``folder`` beside it, the output itself last."""
    files = sorted(folder.iterdir(), key=lambda file: (file.name == target.name, file.name))
    for file in files:
        flush(file)
    names = {file.name for file in files}
    for suffix in _STALE.get(target.suffix.lower(), ()):
        if target.name + suffix not in names:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    for file in files:
        file.replace(target.with_name(file.name))
    with _open_folder(target.parent) as parent:
        if parent is not None:
            os.fsync(parent)
