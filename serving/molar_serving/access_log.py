"""The access log: every request in ``WORKSPACE/serving/access.jsonl``, where ``[serve] access_log`` asks for it."""

import logging
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import Scope

from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.activity_log import JsonLines
from molar_serving.audit import FOLDER, Pseudonyms
from molar_serving.observed import Observer

_log = logging.getLogger("molar.serving")


class AccessLog(Observer):
    """Writes a line for each request: when, which endpoint, by which key, how it ended and after how long.

    Addresses appear under pseudonyms, paths, parameters and bodies not at all: they name people. Where a line cannot be
    written, requests are answered nevertheless; the server's own log says so once.
    """

    def __init__(self, workspace: Path) -> None:
        self._lines = JsonLines(workspace / FOLDER / "access.jsonl")
        self._pseudonyms = Pseudonyms(workspace)
        self._works = True

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Write its line."""
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
