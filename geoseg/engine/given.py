"""What all blocks of a job share, handed out to the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from geoseg.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Given"]

GIVE_TRIES = 10
"""Times that workers may end while they are given what all blocks share."""

GIVE_S = 60.0
"""How long that may take: the scheduler tries for ever to make a copy on a worker that ended
meanwhile, and makes none on any other until then."""


class Given:
    """A task's arguments, held by the workers; sent again when all that held them are gone."""

    def __init__(
        self, client: Client, arguments: tuple[Any, ...], wait: Callable[[], None]
    ) -> None:
        self._client = client
        self._arguments = arguments
        self._wait = wait
        self._held: Future | None = None
        self._copies = True

    def future(self) -> Future:
        """The arguments on the workers; raises WorkerError when none stays to hold them."""
        for _ in range(GIVE_TRIES):
            if self._held is not None and self._held.status == "finished":
                return self._held
            self._wait()
            # those of this moment may be gone before they are reached: an OSError of the
            # scheduler's connection to them, TimeoutError among these, or, when none is left, a
            # ValueError, which is Dask's word for copies on no worker; a lost scheduler is
            # noticed by waiting
            with suppress(ValueError, OSError):
                try:
                    (self._held,) = self._client.sync(self._give, callback_timeout=GIVE_S)
                except TimeoutError:
                    self._copies = False
                    raise
        raise WorkerError(
            f"workers ended {GIVE_TRIES} times before they could be given the job: what is done "
            "is kept, look at their logs and run the same command again"
        )

    async def _give(self) -> list[Future]:
        # broadcast reaches the workers of this moment; one that starts later copies them, as all
        # but one do without it
        given: list[Future] = await self._client.scatter(
            [self._arguments],
            broadcast=self._copies,
            hash=False,
            direct=False,
            asynchronous=True,
        )
        return given
