"""Progress on stderr: a live bar on a terminal, one in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["LineProgress", "NotebookBar", "RichBar", "progress_bar", "progress_for"]

LINE_EVERY_S = 10.0
NOTEBOOK_EVERY_S = 0.25


class RichBar:
    """A live bar with rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar: RichProgress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._begun = 0.0
        self._done = 0

    def __enter__(self) -> RichBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """A stage begins."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(stage, total=total_px, completed=done_px, rate="")
        self._begun, self._done = time.monotonic(), 0

    def advance(self, pixels: int) -> None:
        """More pixels are done."""
        if self._task is None:
            return
        self._done += pixels
        rate = self._done / 1e6 / max(time.monotonic() - self._begun, 1e-9)
        self._bar.update(self._task, advance=pixels, rate=f"{rate:.2f} Mpx/s")


class LineProgress:
    """A line per stage and every ten seconds, for logs."""

    def __init__(self) -> None:
        self._stage, self._total, self._done, self._fresh = "", 0, 0, 0
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """A stage begins."""
        self._stage, self._total, self._done, self._fresh = stage, total_px, done_px, 0
        self._begun = self._said = time.monotonic()
        already = f", {100 * done_px / max(total_px, 1):.0f} % were done before" if done_px else ""
        sys.stderr.write(f"geoseg: {stage}: {total_px / 1e6:.2f} Mpx{already}\n")

    def advance(self, pixels: int) -> None:
        """More pixels are done."""
        self._done += pixels
        self._fresh += pixels
        now = time.monotonic()
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        rate = self._fresh / max(now - self._begun, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        sys.stderr.write(
            f"geoseg: {self._stage}: {100 * self._done / max(self._total, 1):.0f} %, "
            f"{rate / 1e6:.2f} Mpx/s, {left:.0f} s left\n"
        )


class NotebookBar(LineProgress):
    """A bar in the output of a notebook's cell; needs no widgets."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        super().__init__()
        self._html = HTML
        self._place = display(HTML(""), display_id=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show()

    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """A stage begins."""
        self._stage, self._total, self._done, self._fresh = stage, total_px, done_px, 0
        self._begun = time.monotonic()
        self._show()

    def advance(self, pixels: int) -> None:
        """More pixels are done."""
        self._done += pixels
        self._fresh += pixels
        if time.monotonic() - self._said > NOTEBOOK_EVERY_S:
            self._show()

    def _show(self) -> None:
        from html import escape

        self._said = time.monotonic()
        rate = self._fresh / 1e6 / max(self._said - self._begun, 1e-9)
        share = 100 * self._done / max(self._total, 1)
        text = f"{escape(self._stage)}: {share:.0f} %, {rate:.2f} Mpx/s"
        bar = f"<progress value='{share:.1f}' max='100' aria-label='{escape(self._stage)}'>"
        self._place.update(self._html(f"{bar}</progress> {text}"))


class _Quiet(LineProgress):
    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """Silence."""

    def advance(self, pixels: int) -> None:
        """Silence."""


def progress_for(quiet: bool) -> RichBar | LineProgress:
    """The one that suits stderr."""
    if quiet:
        return _Quiet()
    if _in_notebook():
        return NotebookBar()
    return RichBar() if sys.stderr.isatty() else LineProgress()


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process; its standard error is no terminal."""
    kernel = sys.modules.get("ipykernel.zmqshell")
    return kernel is not None and kernel.ZMQInteractiveShell.initialized()


def progress_bar() -> RichBar | LineProgress:
    """What shows progress where this runs: a bar on a terminal and in a notebook, else lines.

    ``with geoseg.progress_bar() as bar: geoseg.segment(scene, "terrain", progress=bar)``
    """
    return progress_for(quiet=False)
