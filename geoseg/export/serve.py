"""The web page of maps too large for one file: pieces are made when they are asked for.

Bound to this machine's loopback address. There is nothing to escape from: no path of a
request is ever a path of the disk; a piece's name is a letter and numbers.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from geoseg.errors import OutputError
from geoseg.export.pieces import is_key
from geoseg.export.web import Page, head_of, pieces_of

__all__ = ["make_server"]

_KEPT = 512


def make_server(page: Page, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page on 127.0.0.1; ``port`` 0 takes a free one.

    The caller runs ``serve_forever``. Raises OutputError when the port is taken.
    """
    pieces = pieces_of(page)
    before, after = head_of(page, pieces.grid, None if page.scene is None else 0, served=True)
    text = (before + after).encode()
    lock = threading.Lock()

    @lru_cache(_KEPT)
    def piece(key: str) -> bytes | None:
        with lock:  # one at a time: a browser asks for dozens, memory is for one
            return pieces.get(key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}  # type: ignore[attr-defined]
            if self.headers.get("Host") not in hosts:  # a name that some page made ours
                self._answer(HTTPStatus.FORBIDDEN, b"", "text/plain")
            elif self.path == "/":
                self._answer(HTTPStatus.OK, text, "text/html; charset=utf-8")
            elif self.path.startswith("/tiles/") and (found := piece(self.path[7:])) is not None:
                self._answer(HTTPStatus.OK, found, "application/octet-stream")
            else:  # nothing there is no failure: most maps have empty corners
                missing = self.path.startswith("/tiles/") and is_key(self.path[7:])
                status = HTTPStatus.NO_CONTENT if missing else HTTPStatus.NOT_FOUND
                self._answer(status, b"", "text/plain")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the person's."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise OutputError(f"port {port} can't be used: {error}: choose another") from error
