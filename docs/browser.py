"""A browser without a window, told what to do over a pipe (Chrome DevTools Protocol): for pictures and for tests."""

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_FREE = 20  # descriptors from here on are not those of the pipes that Chromium reads and writes, 3 and 4
_SECONDS = 60.0  # until something that is waited for must have come


def installed() -> str | None:
    """Chromium or Chrome on the path; None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of Chromium.

    Args:
        width: Of the window, in pixels of CSS.
        height: Likewise.
        scale: Pixels of a picture for each.
        dark: What the page is told that its reader prefers.
    """

    def __init__(self, width: int, height: int, *, scale: float = 1.0, dark: bool = False) -> None:
        found = installed()
        if found is None:
            raise SystemExit("no Chromium on the path: install it, say with `apt install chromium`")
        self._profile = tempfile.TemporaryDirectory(
            ignore_cleanup_errors=True
        )  # its other processes end a little later
        self._process, self._write, self._read = _started([found, *_OPTIONS, f"--user-data-dir={self._profile.name}"])
        self._sent, self._buffer, self._session = 0, b"", None
        self._seen: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self.resize(width, height, scale=scale)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme, calm])

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        self._write.close()
        self._read.close()
        self._profile.cleanup()

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Another size of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        self._ask("Emulation.setDeviceMetricsOverride", **size, mobile=False)

    def go(self, address: str) -> None:
        """Open an address."""
        self._ask("Page.navigate", url=address)

    def run(self, code: str) -> Any:
        """The value of some JavaScript; an AssertionError if it throws."""
        told = self._ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, code: str) -> Any:
        """The value of some JavaScript, once it is something."""
        end = time.monotonic() + _SECONDS
        while not (value := self.run(code)):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """Press a key, such as Tab; Enter types a line break as well."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            told = text if kind == "keyDown" else {}
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **told)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._ask("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write what is seen as a picture: PNG, or WebP by the name."""
        kind = {"format": "webp", "quality": 82} if path.suffix == ".webp" else {"format": "png"}
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", **kind)["data"]))

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """What the page threw, logged or was refused by its policy."""
        self.run("0")
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [one for one in self._seen if one["method"] in kinds]

    def _ask(self, method: str, **parameters: Any) -> Any:
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._sent:
                assert "error" not in told, f"{method}: {told}"
                return told["result"]
            self._seen.append(told)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = self._read.read(1 << 16)
            assert piece, "the browser has ended"
            self._buffer += piece
        one, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(one)
        return found


def _started(command: list[str]) -> tuple[int, Any, Any]:
    """The process, what it reads from and what it writes to; it has them as descriptors 3 and 4."""
    theirs, ours = os.pipe()
    mine, other = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FREE) for end in (theirs, other)]
    silent = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    given = [(os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(ends, (3, 4), strict=True)]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[*silent, *given])
    for end in (theirs, other, *ends):
        os.close(end)
    return process, os.fdopen(ours, "wb", 0), os.fdopen(mine, "rb", 0)
