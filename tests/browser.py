"""Chromium without a window, driven over a pipe by its own protocol: no driver and no package beside it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
LIMIT = 60.0  # seconds for an answer

needed = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium here; `make browser` installs it")


def _pipe(theirs: int) -> tuple[int, int]:
    """Its end of a pipe, with a number out of the way of those that it speaks on, and ours."""
    ends = os.pipe()
    moved = fcntl.fcntl(ends[theirs], fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(ends[theirs])
    return moved, ends[1 - theirs]


class Browser:
    """One tab. `requests` and `complaints` hold what it asked the network for, and what its console said."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        theirs_in, ours_out = _pipe(0)
        theirs_out, ours_in = _pipe(1)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                   "--no-first-run", "--disable-extensions", "--disable-background-networking", "--mute-audio",
                   f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe"]  # fmt: skip
        self._process = subprocess.Popen(  # the protocol speaks on the descriptors 3 and 4
            ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}', PROGRAM,
             *options, "about:blank"],
            pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in, self._held, self._number = ours_out, ours_in, b"", 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        self._session = None
        targets = self("Target.getTargets")["targetInfos"]
        page = next(held["targetId"] for held in targets if held["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self(f"{part}.enable")

    def __call__(self, method: str, **params):
        """The answer to a call of the protocol."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            call["sessionId"] = self._session
        os.write(self._out, json.dumps(call).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _next(self) -> dict:
        end = time.monotonic() + LIMIT
        while b"\0" not in self._held:
            assert select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0], "Chromium says nothing"
            part = os.read(self._in, 1 << 20)
            assert part, "Chromium has ended"
            self._held += part
        text, self._held = self._held.split(b"\0", 1)
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Page.loadEventFired":
            self._loaded = True

    def open(self, address: str | Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page in a window of this size, and wait until it is loaded."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.requests.clear()
        self.complaints.clear()
        self._loaded = False
        self("Page.navigate", url=Path(address).resolve().as_uri() if isinstance(address, Path) else address)
        while not self._loaded:
            self._next()

    def ask(self, script: str):
        """The value of an expression in the page."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def middle(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A place on the first element that a selector finds, scrolled into sight."""
        x, y = self.ask(
            f"(async()=>{{const e=document.querySelector({json.dumps(selector)});e.scrollIntoView({{block:'center',"
            f"behavior:'instant'}});"
            f"await new Promise(d=>requestAnimationFrame(()=>requestAnimationFrame(d)));"
            f"const b=e.getBoundingClientRect();return [b.left+b.width*{across},b.top+b.height*{down}]}})()"
        )
        return x, y

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        """`'mouseMoved'`, `'mousePressed'` or `'mouseReleased'`."""
        self("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """Click on an element."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, name: str, text: str = "") -> None:
        """Press and release a key."""
        self("Input.dispatchKeyEvent", type="keyDown", key=name, text=text)
        self("Input.dispatchKeyEvent", type="keyUp", key=name)

    def picture(self, path: Path, whole: bool = True) -> None:
        """Write what the page looks like as PNG."""
        held = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        if whole:
            height = self.ask("document.documentElement.scrollHeight")
            width = self.ask("innerWidth")
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            held = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(held["data"]))

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of a file."""
    made = Browser()
    yield made
    made.close()
