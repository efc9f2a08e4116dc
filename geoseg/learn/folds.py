"""Spatial cross-validation: a training per fold, each judged where it wasn't trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError

__all__ = ["FoldTable", "fold_path"]

Figures = Mapping[str, float]


def fold_path(out: Path, fold: int) -> Path:
    """Where the bundle of a fold goes: ``model.zip`` to ``model-fold2.zip``.

    >>> fold_path(Path("models/weeds.zip"), 2).as_posix()
    'models/weeds-fold2.zip'
    """
    return out.with_name(f"{out.stem}-fold{fold}{out.suffix}")


@dataclass
class FoldTable:
    """Figures of the folds that are done, kept beside them as ``OUT-folds.json``.

    ``rows``: fold from 1 to its ``figures``, the ``sha256`` of its weights and what its training
    was ``begun`` with.
    """

    path: Path
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def beside(cls, out: Path) -> FoldTable:
        """With what an earlier run has left; raises OutputError where it can't be read."""
        path = out.with_name(f"{out.stem}-folds.json")
        if not path.exists():
            return cls(path)
        try:
            rows = {int(k): dict(v) for k, v in json.loads(path.read_text("utf-8")).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise OutputError(f"{path}: no table of folds ({error}): remove it") from error
        return cls(path, rows)

    def has(self, fold: int, begun: Mapping[str, Any], sha256: str) -> bool:
        """Whether a fold is done, of the same training, and its bundle is the one judged."""
        row = self.rows.get(fold, {})
        return row.get("begun") == begun and row.get("sha256") == sha256

    def add(self, fold: int, figures: Figures, begun: Mapping[str, Any], sha256: str) -> None:
        """Keep a fold's figures, in one rename."""
        self.rows[fold] = {"figures": dict(figures), "sha256": sha256, "begun": dict(begun)}
        part = self.path.with_suffix(".writing")
        part.write_text(json.dumps(self.rows, indent=2), encoding="utf-8")
        part.replace(self.path)

    def lines(self) -> list[str]:
        """Mean, standard deviation and the single folds of each figure, for a terminal."""
        rows = [row["figures"] for row in self.rows.values()]
        names = list(dict.fromkeys(name for row in rows for name in row))
        out = [f"{'over ' + str(len(self.rows)) + ' folds':<24} {'mean':>8} {'sd':>8}  each"]
        for name in names:
            values = [float(row[name]) for row in rows if name in row]
            mean = sum(values) / len(values)
            spread = sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)
            each = " ".join(f"{v:.3f}" for v in values)
            out.append(f"{name:<24} {mean:8.4f} {spread**0.5:8.4f}  {each}")
        return out
