"""Load for tests: requests straight into the application, so many a second, whether or not answers come."""

import asyncio
import json
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.types import ASGIApp, Message

_AT_ONCE = 256  # requests under way, as a proxy before the server would have it


@dataclass
class Outcome:
    """What came of a load: for each status the seconds of its answers, and what ``kept`` makes of the lists.

    Of a long load something small should be kept, as the garbage collector of the process, in which the server is, too,
    stops for as long as it takes to visit all of it.
    """

    seconds: dict[int, "array[float]"] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    kept: Callable[[Any], Any] = lambda body: body

    def add(self, status: int, seconds: float, body: bytes) -> None:
        """Count an answer."""
        self.seconds.setdefault(status, array("d")).append(seconds)
        if status == 200:
            self.bodies.append(self.kept(json.loads(body)))

    def count(self, status: int) -> int:
        """How many answers had a status."""
        return len(self.seconds.get(status, ()))

    def quantile(self, share: float, status: int = 200) -> float:
        """Seconds that a share of the answers took at most."""
        return float(np.quantile(self.seconds[status], share))


async def ask(app: ASGIApp, path: str, body: Any, headers: Sequence[tuple[str, str]] = ()) -> tuple[int, float, bytes]:
    """Post a body; status, seconds and body of the answer."""
    content, sent = json.dumps(body).encode(), list[Message]()
    known = [("host", "127.0.0.1"), ("content-type", "application/json"), *headers]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in known],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    began = time.perf_counter()
    await app(scope, receive, send)
    seconds = time.perf_counter() - began
    return sent[0]["status"], seconds, b"".join(message.get("body", b"") for message in sent[1:])


async def load(
    app: ASGIApp,
    body: Callable[[int], Any],
    rate: float,
    seconds: float,
    *,
    path: str = "/v1/recommendations",
    headers: Sequence[tuple[str, str]] = (),
    outcome: Outcome | None = None,
) -> Outcome:
    """Send ``rate`` requests a second, the n-th with ``body(n)``, and wait for all answers.

    What 256 under way leave over is not sent. What comes of it is added to ``outcome``, if there is one.
    """
    outcome, running, began, sent = outcome or Outcome(), set(), time.perf_counter(), 0

    async def one(number: int) -> None:
        outcome.add(*await ask(app, path, body(number), headers))

    while (passed := time.perf_counter() - began) < seconds:
        while sent < passed * rate and len(running) < _AT_ONCE:
            task = asyncio.create_task(one(sent))
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*running)
    return outcome
