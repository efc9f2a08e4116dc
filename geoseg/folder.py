"""Many scenes one by one with one model: what fails is listed, the rest is kept.

While scenes are open or failed, a record beside the outputs says which are done, so that the
same call goes on. It goes when all are done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geoseg import __version__
from geoseg.engine.hold import check_same_job
from geoseg.engine.store import JobStore
from geoseg.errors import GeosegError, InputError
from geoseg.export.target import check_output
from geoseg.outputs import check_report, write_report
from geoseg.pipeline import map_scene
from geoseg.requests import MapRequest, RunOptions
from geoseg.scene.formats import image_files
from geoseg.scene.opening import open_scene
from geoseg.scene.sentinel2 import is_safe

if TYPE_CHECKING:
    from geoseg.engine.report import Progress, RunReport
    from geoseg.models.segmenter import Fittable, Segmenter
    from geoseg.scene.reader import Scene

__all__ = ["FolderReport", "Row", "find_scenes", "images_in", "map_folder"]

PLACE = "{scene}"
"""Stands for a scene's name in the name of an output."""

RECORD = "geoseg-folder.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one scene.

    Attributes:
        state: ``mapped`` now, ``kept`` from an earlier run, or ``failed``.
        summary: what a run report says: pixels, wall seconds, share per class.
        error: the line that says why it failed, and the exit code that goes with it.
    """

    scene: str
    state: Literal["mapped", "kept", "failed"]
    outputs: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        said = {"error": self.error} if self.error else dict(self.summary)
        return {"scene": self.scene, "state": self.state, "outputs": list(self.outputs)} | said


@dataclass(frozen=True)
class FolderReport:
    """A row per scene, in the order in which they were mapped."""

    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """Scenes without a map."""
        return tuple(row for row in self.rows if row.state == "failed")

    @property
    def exit_code(self) -> int:
        """0 where every scene has its map, else the highest of the failures'."""
        return max((row.exit_code for row in self.failed), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        states = [row.state for row in self.rows]
        counts = {state: states.count(state) for state in ("mapped", "kept", "failed")}
        return {"scenes": [row.to_dict() for row in self.rows]} | counts


def images_in(places: Sequence[str | Path]) -> list[Path]:
    """Files as they are, folders by the images and SAFE folders in them, sorted by name.

    Raises SceneError where a folder holds none.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir() or is_safe(place):
            found.append(place)
            continue
        inside = sorted(path for path in place.iterdir() if path.is_dir() and is_safe(path))
        # SAFE folders alone are no reason to say that there is no image
        found += inside if inside and not _has_files(place) else inside + image_files(place)
    return found


def find_scenes(places: Sequence[str | Path]) -> list[Path]:
    """``images_in``; raises InputError where two scenes share a name."""
    found = images_in(places)
    by_name: dict[str, Path] = {}
    for path in found:
        if path.stem in by_name:
            raise InputError(
                f"{by_name[path.stem]} and {path}: both are called {path.stem}, their outputs "
                "would be one: map them apart"
            )
        by_name[path.stem] = path
    return found


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


def map_folder(
    places: Sequence[str | Path] | str | Path,
    model: Segmenter | Fittable | str,
    request: MapRequest,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    *,
    opener: Callable[[str], Scene] = open_scene,
    how: Mapping[str, Any] | None = None,
    on_row: Callable[[Row, int, int], None] | None = None,
) -> FolderReport:
    """``map_scene`` for each scene of a folder, or of several files.

    Each name in ``request.outputs`` holds ``{scene}``. ``opener`` opens a path, ``how`` says
    with what options (JSON values). ``on_row`` hears each row, its number and how many there
    are. A scene that fails doesn't stop the others. Raises InputError's children before any
    work: for outputs without ``{scene}``, an unknown model, an unfinished run with other
    options.
    """
    places = [places] if isinstance(places, (str, Path)) else places
    options = options or RunOptions()
    for output in request.outputs:
        if PLACE not in Path(output).name:
            raise InputError(
                f"{', '.join(map(str, places[:3]))}: a folder, or several scenes, can't go to one "
                f"file, {output}: write {PLACE} where the scene's name goes, such as "
                f"maps/{PLACE}{Path(output).suffix}"
            )
        check_output(output)
    if request.report:
        # a folder that is mapped again renews its table
        check_report(request.report, [], overwrite=True)
    scenes = find_scenes(places)
    record = _Record.begin(model, request, options, how or {})
    rows: list[Row] = []
    for path in scenes:
        names = tuple(_named(name, path) for name in request.outputs)
        named = replace(request, outputs=names, report=None)  # one report, of all
        row = record.kept(path, named.outputs)
        if row is None:
            record.forget_unfinished(path, named.outputs)
            row = _map_one(path, model, record.renewed(named), options, (opener, progress))
            record.note(path, row)
        rows.append(row)
        if on_row is not None:
            on_row(row, len(rows), len(scenes))
    report = FolderReport(tuple(rows))
    if not report.failed:
        record.remove()
    if request.report:
        write_report(report.to_dict(), request.report)
    return report


def _named(output: str, path: Path) -> str:
    return output.replace(PLACE, path.stem)


def _map_one(
    path: Path,
    model: Segmenter | Fittable | str,
    request: MapRequest,
    options: RunOptions,
    means: tuple[Callable[[str], Scene], Progress | None],
) -> Row:
    opener, progress = means
    try:
        report = map_scene(opener(str(path)), model, request, options, progress)
    except GeosegError as error:
        return Row(scene=str(path), state="failed", error=str(error), exit_code=error.exit_code)
    outputs = tuple(str(name) for name in request.outputs)
    return Row(scene=str(path), state="mapped", outputs=outputs, summary=_summary(report))


def _summary(report: RunReport) -> dict[str, Any]:
    counts = {key: count for key, count in report.counts.items() if key != 255}
    total = max(sum(counts.values()), 1)
    shares = {report.class_names.get(key, str(key)): n / total for key, n in counts.items()}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return {
        "pixels": report.pixels,
        "valid_pixels": sum(counts.values()),
        "wall_seconds": round(report.wall_seconds, 3),
        "masked_pixels": sum(report.masked.values()),
        "shares": {name: round(share, 6) for name, share in ordered},
        "warnings": list(report.warnings),
    }


@dataclass(frozen=True)
class _Record:
    """Which scenes are done, while not all are."""

    store: JobStore
    content: dict[str, Any]

    @classmethod
    def begin(
        cls,
        model: Segmenter | Fittable | str,
        request: MapRequest,
        options: RunOptions,
        how: Mapping[str, Any],
    ) -> _Record:
        """That of an earlier run with the same request, or a new one; raises ResumeError."""
        from geoseg.models.catalogue import load_model

        card = (load_model(model) if isinstance(model, str) else model).card
        asked = {
            name: repr(value)
            for name, value in vars(options).items()
            if name not in ("client", "security", "workers", "scheduler", "dashboard", "memory")
        }
        polygons = [request.pixel_coords, request.simplify_m, request.smooth, request.geometry]
        identity = {
            "geoseg": __version__,
            "model": card.to_dict(),
            "outputs": list(request.outputs),
            "options": asked,
            "scenes": dict(how),
            "polygons": polygons,
        }
        identity = json.loads(json.dumps(identity, default=str))
        store = JobStore(str(Path(request.outputs[0]).resolve().parent))
        before = None if request.overwrite else store.read_json(RECORD)
        if before is not None:
            check_same_job(before["identity"], identity, f"{store.url}/{RECORD}")
            return cls(store, before)
        return cls(store, {"identity": identity, "done": {}, "overwrite": request.overwrite})

    def kept(self, path: Path, outputs: Sequence[str]) -> Row | None:
        """The row of a scene that is done and unchanged since; None where it isn't."""
        done = self.content["done"].get(str(path))
        if done is None or "summary" not in done or done["source"] != _stamp(path):
            return None
        if not all(Path(output).exists() for output in outputs):
            return None
        return Row(scene=str(path), state="kept", outputs=tuple(outputs), summary=done["summary"])

    def forget_unfinished(self, path: Path, outputs: Sequence[str]) -> None:
        """What was done of a scene that has changed since it failed is of no use."""
        tried = self.content["done"].get(str(path))
        if tried is not None and tried["source"] != _stamp(path):
            JobStore(f"{Path(outputs[0]).resolve()}.geoseg-job").remove()

    def renewed(self, request: MapRequest) -> MapRequest:
        """What an interrupted run was to replace, this one replaces."""
        return replace(request, overwrite=bool(request.overwrite or self.content["overwrite"]))

    def note(self, path: Path, row: Row) -> None:
        """Write down a scene that is done, or that failed as it was."""
        done = {"summary": dict(row.summary)} if row.state == "mapped" else {}
        self.content["done"][str(path)] = {"source": _stamp(path)} | done
        if Path(self.store.url).is_dir():
            self.store.write_json(RECORD, self.content)

    def remove(self) -> None:
        """All are done."""
        self.store.remove_file(RECORD)


def _stamp(path: Path) -> list[int]:
    """What tells a source from a changed one."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
