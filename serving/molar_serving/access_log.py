"""The access log: every request in ``WORKSPACE/serving/access.jsonl``, where ``[serve] access_log`` asks for it."""

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from molar_retrieval.errors import MolarError
from molar_serving.audit import FOLDER, Pseudonyms
from molar_serving.json_lines import JsonLines

_log = logging.getLogger("molar.serving")


class AccessLog:
    """Writes a line for each request: when, which endpoint, by which key, how it ended and after how long.

    Addresses appear under pseudonyms, paths, parameters and bodies not at all: they name people. Where a line cannot be
    written, requests are answered nevertheless; the server's own log says so once.
    """

    def __init__(self, app: ASGIApp, workspace: Path) -> None:
        self.app = app
        self._lines = JsonLines(workspace / FOLDER / "access.jsonl")
        self._pseudonyms = Pseudonyms(workspace)
        self._works = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            self._write(scope, status, time.perf_counter() - began)

    def _write(self, scope: Scope, status: int, seconds: float) -> None:
        client = scope.get("client")
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": scope.get("request_id"),
            "trace": scope.get("trace_id"),
            "method": scope["method"],
            "endpoint": scope.get("endpoint_path"),
            "key": scope.get("key_name"),
            "status": status,
            "milliseconds": round(1000 * seconds, 2),
        }
        try:
            self._lines.append(record | {"address": self._pseudonyms.of(client[0]) if client else None})
        except MolarError as error:
            if self._works:
                _log.error("the access log cannot be written: %s", error)
            self._works = False
        else:
            self._works = True
