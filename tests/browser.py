"""A headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import websocket_connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")


def need_chromium() -> None:
    if PROGRAM is None:
        if os.environ.get("GEOSEG_NO_SKIP"):
            pytest.fail("chromium is not installed, and nothing may be skipped here")
        pytest.skip("chromium is not installed: apt-get install chromium")


class Browser:
    """One page; ``requests`` and ``errors`` hold all that it asked for and complained of."""

    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._number = 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [p for p in json.load(answer) if p["type"] == "page"]
        url = pages[0]["webSocketDebuggerUrl"]
        self._socket = self.loop.run_until_complete(self._connect(url))
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    async def _connect(self, url: str) -> Any:
        return await websocket_connect(url, max_message_size=1 << 30)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.write_message(json.dumps(message))
        while True:
            text = await asyncio.wait_for(self._socket.read_message(), 120)
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"])[:600])
        elif event["method"] == "Log.entryAdded" and values["entry"]["level"] != "info":
            self.errors.append(values["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and values["type"] != "log":
            self.errors.append(str(values["args"]))

    def size(self, wide: int, high: int, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=wide, height=high, deviceScaleFactor=2 if mobile else 1, mobile=mobile,
        )  # fmt: skip

    def dark(self, dark: bool) -> None:
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.documentElement && document.documentElement.dataset.ready === '1'")

    def value(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, f"{expression} never came true: {self.errors}"
            time.sleep(0.05)

    def settle(self) -> None:
        """Until nothing is left to load or to draw."""
        self.wait("!view.dirty && !caches.some((c) => c.waiting)")
        time.sleep(0.15)
        self.wait("!view.dirty && !caches.some((c) => c.waiting)")

    def key(self, key: str) -> None:
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else ""
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    assert PROGRAM is not None
    profile = folder / "profile"
    arguments = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run",
        "--disable-background-networking", "--hide-scrollbars", "about:blank",
    ]  # fmt: skip
    with open(folder / "chromium.log", "w") as log:
        process = subprocess.Popen(arguments, stderr=log, stdout=log)
    try:
        active = profile / "DevToolsActivePort"
        end = time.monotonic() + 30
        while not (active.exists() and active.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < end, "chromium did not start"
            time.sleep(0.05)
        yield Browser(int(active.read_text().split()[0]), folder)
    finally:
        process.terminate()
        process.wait(20)
