"""Every error geoseg raises on purpose.

::

    GeosegError                 one clear line: what, which value, what to do
    ├── InputError      exit 2  the request or its files are wrong; nothing was computed
    │   ├── SceneError          a scene can't be opened, or lacks what was asked of it
    │   ├── ModelError          a model can't be loaded, or doesn't fit the scene
    │   └── OutputError         an output can't be written, or is there already
    ├── BlockError      exit 3  a window could not be read, predicted or written
    ├── WorkerError     exit 4  a window kills the workers it runs on, or no worker can run it
    ├── LockedError     exit 5  another run holds the output
    └── ResumeError     exit 6  the unfinished job was started with something else

Anything else that reaches a user is a defect of geoseg.
"""

from __future__ import annotations

__all__ = [
    "BlockError",
    "GeosegError",
    "InputError",
    "LockedError",
    "ModelError",
    "OutputError",
    "ResumeError",
    "SceneError",
    "WorkerError",
]


class GeosegError(Exception):
    """Base of all; ``str(error)`` is the line a user reads."""

    exit_code: int = 1


class InputError(GeosegError):
    """The request can't be carried out as it stands."""

    exit_code = 2


class SceneError(InputError):
    """A scene can't be opened or lacks what was asked of it."""


class ModelError(InputError):
    """A model can't be loaded or doesn't fit the scene."""


class OutputError(InputError):
    """An output can't be written, or exists already."""


class BlockError(GeosegError):
    """A window of the scene could not be read, predicted or written."""

    exit_code = 3


class WorkerError(GeosegError):
    """A window kills workers, or no worker can take it."""

    exit_code = 4


class LockedError(GeosegError):
    """Another run holds the output."""

    exit_code = 5


class ResumeError(GeosegError):
    """An unfinished job was started from other sources, models or options."""

    exit_code = 6
