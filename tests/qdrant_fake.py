"""A Qdrant server by REST for tests: qdrant-client's in-process mode behind HTTP, with faults in front of it.

It answers as a server does where that differs from the mode in process: numbers of vectors and scores have 32 bits and
are printed with as few digits as tell them apart, what a server refuses is refused (:mod:`qdrant_limits`), and head and
body of an answer are packets of their own, of which the second waits until the first was acknowledged.

It records what it was asked. Faults are taken in turn: each waits for the request that it is of, strikes so many times,
and is gone.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_limits import MET, refusal, too_large


@dataclass(frozen=True)
class Asked:
    """One request: method, path without its query, bytes of its body, the key that came with it, the body."""

    method: str
    path: str
    size: int
    key: str | None
    body: Any


@dataclass
class Fault:
    """What happens to requests whose ``METHOD path`` matches ``of``.

    Attributes:
        of: A regular expression.
        times: How often it strikes.
        after: So many such requests pass before.
        status: Answer with this status instead of asking.
        error: The reason that the answer gives.
        headers: Of the answer.
        delay: Seconds that pass before anything else.
        cut: Ask, but send only the beginning of the answer.
        drip: Send the answer in pieces, this many seconds apart.
        act: Called before anything else.
    """

    of: str
    times: int = 1
    after: int = 0
    status: int | None = None
    error: str = "planted"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    drip: float = 0.0
    act: Callable[[], object] | None = None


class FakeQdrant:
    """A server on loopback; see :func:`fake_qdrant`.

    Attributes:
        url: Its address.
        client: What is behind it; asking it is not recorded.
        asked: All requests in order.
        faults: To come.
        key: Requests need this key; None: none.
        version: That it says it has.
        statuses: Of collections, one after the other, the last one for good.
        misses: Searches with fewer candidates miss the best item, as graphs may; 0: there are no graphs.
        topology: What it says of nodes and of copies of collections on them, by path; None: it knows no such path.
        indexes: By collection, the kinds of its payload fields that have an index.
        answered: Bytes of all answers.
        grpc: The server for gRPC, where there is one; see :mod:`qdrant_grpc_fake`.
        lock: Held while one request is answered: the mode in process takes one writer at a time.
    """

    def __init__(self, client: QdrantClient, version: str) -> None:
        self.client = client
        self.asked: list[Asked] = []
        self.faults: list[Fault] = []
        self.key: str | None = None
        self.version = version
        self.url = ""
        self.statuses = ["green"]
        self.misses = 0
        self.indexes: dict[str, dict[str, str]] = {}
        self.topology: Callable[[str], Any] = {"/cluster": {"status": "disabled"}}.get
        self.answered = 0
        self.grpc: Any = None
        self.lock = threading.Lock()

    def of(self, pattern: str) -> list[Asked]:
        """The requests whose ``METHOD path`` matches."""
        return [one for one in self.asked if re.search(pattern, f"{one.method} {one.path}")]

    def sent(self, size: int) -> None:
        """Count the bytes of an answer."""
        self.answered += size

    def striking(self, asked: Asked) -> Fault | None:
        """Note a request; the fault that it meets."""
        with self.lock:
            self.asked.append(asked)
            for fault in self.faults:
                if re.search(fault.of, f"{asked.method} {asked.path}"):
                    if fault.after:
                        fault.after -= 1
                        return None
                    fault.times -= 1
                    if not fault.times:
                        self.faults.remove(fault)
                    return fault
        return None

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and document for a request."""
        if asked.path == "/":  # answered without a key, as Qdrant does
            return 200, {"title": "qdrant - vector search engine", "version": self.version, "commit": "0" * 40}
        if self.key is not None and asked.key != self.key:
            return 401, _error("Must provide an API key or an Authorization bearer token")
        if said := too_large(asked.size):
            return 413, _error(said)
        if asked.method == "GET" and (told := self.topology(asked.path)) is not None:
            return 200, {"result": told, "status": "ok", "time": 0.0}
        parts = asked.path.strip("/").split("/")
        if refused := refusal(asked.body, self.version, self.indexes.get(parts[1] if len(parts) > 1 else "", {})):
            return refused[0], _error(refused[1])
        try:
            with self.lock:
                result = (self._points if "points" in parts else self._collections)(asked, parts)
        except ValueError as error:
            return (404 if "not found" in str(error) else 409 if "exists" in str(error) else 400), _error(str(error))
        return 200, {"result": result, "status": "ok", "time": 0.0}

    def _collections(self, asked: Asked, parts: list[str]) -> Any:
        client, body = self.client, asked.body
        match [asked.method, *parts]:
            case ["GET", "aliases"]:
                return _json(client.get_aliases())
            case ["POST", "collections", "aliases"]:
                return client.update_collection_aliases(models.ChangeAliasesOperation(**body).actions)
            case ["GET", "collections"]:
                return _json(client.get_collections())
            case ["GET", "collections", name]:
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                graphs = {"indexed_vectors_count": 99} if self.misses else {}
                return _json(client.get_collection(name)) | {"status": status} | graphs
            case ["PUT", "collections", name]:
                wanted = models.CreateCollection(**body)
                return client.create_collection(
                    name, wanted.vectors, sparse_vectors_config=wanted.sparse_vectors, metadata=wanted.metadata
                )
            case ["PATCH", "collections", name]:
                return client.update_collection(name, metadata=body.get("metadata"))
            case ["DELETE", "collections", name]:
                return client.delete_collection(name)
            case ["GET", "collections", name, "exists"]:
                return {"exists": client.collection_exists(name)}
            case ["GET", "collections", name, "snapshots"]:
                return client.list_snapshots(name)
            case ["PUT", "collections", name, "index"]:
                index = models.CreateFieldIndex(**body)
                self.indexes.setdefault(name, {})[index.field_name] = str(body["field_schema"])
                return _json(client.create_payload_index(name, index.field_name, index.field_schema))
        raise ValueError(f"the fake knows no {asked.method} {asked.path}")

    def _points(self, asked: Asked, parts: list[str]) -> Any:
        client, body = self.client, asked.body
        match [asked.method, *parts]:
            case ["PUT", "collections", name, "points"]:
                return _json(client.upsert(name, models.PointsList(**body).points))
            case ["POST", "collections", name, "points"]:
                one = models.PointRequest(**body)
                found = client.retrieve(name, one.ids, with_payload=one.with_payload, with_vectors=one.with_vector)
                return [_printed(record) for record in found]
            case ["POST", "collections", name, "points", "payload"]:
                return _json(client.set_payload(name, body["payload"], points=body["points"]))
            case ["POST", "collections", name, "points", "delete"]:
                return _json(client.delete(name, models.PointIdsList(**body)))
            case ["POST", "collections", name, "points", "scroll"]:
                scroll = models.ScrollRequest(**body)
                records, _ = client.scroll(
                    name,
                    scroll_filter=scroll.filter,
                    limit=scroll.limit,
                    order_by=scroll.order_by,
                    with_payload=scroll.with_payload,
                    with_vectors=scroll.with_vector,
                )
                return {"points": [_printed(record) for record in records], "next_page_offset": None}
            case ["POST", "collections", name, "points", "count"]:
                count = models.CountRequest(**body)
                return _json(client.count(name, count_filter=count.filter))
            case ["POST", "collections", name, "points", "query"]:
                return self._queried(name, models.QueryRequest(**body))
            case ["POST", "collections", name, "points", "query", "batch"]:
                return [self._queried(name, one) for one in models.QueryRequestBatch(**body).searches]
        raise ValueError(f"the fake knows no {asked.method} {asked.path}")

    def _queried(self, name: str, query: models.QueryRequest) -> dict[str, Any]:
        params = query.params or models.SearchParams(exact=True)
        missed = int(not params.exact and (params.hnsw_ef or 0) < self.misses)
        found = self.client.query_points(
            name,
            query=query.query.nearest if isinstance(query.query, models.NearestQuery) else query.query,
            using=query.using,
            query_filter=query.filter,
            limit=query.limit + missed,
            with_payload=query.with_payload,
        )
        return {"points": [_printed(point) for point in found.points[missed:]]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeQdrant

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        asked = Asked(self.command, self.path.partition("?")[0], len(raw), self.headers.get("api-key"), body)
        fault = self.fake.striking(asked)
        if fault is not None and fault.act is not None:
            fault.act()
        if fault is not None:
            time.sleep(fault.delay)
        if fault is not None and fault.status is not None:
            self._send(fault.status, _error(fault.error), fault.headers)
            return
        status, document = self.fake.answer(asked)
        self._send(status, document, {}, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 (the names that http.server looks for)

    def _send(self, status: int, document: Any, headers: dict[str, str], fault: Fault | None = None) -> None:
        content = json.dumps(document, separators=(",", ":")).encode()
        self.fake.sent(len(content))
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault is not None and fault.cut:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif fault is not None and fault.drip:
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(fault.drip)
            else:
                self.wfile.write(content)
        except OSError:
            self.close_connection = True  # whoever asked has gone

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    closed = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what went wrong, unless the test is over."""
        if not self.closed:
            super().handle_error(request, client_address)


def _json(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_none=True)


def _printed(point: models.Record | models.ScoredPoint) -> dict[str, Any]:
    """A point in JSON. The payload keeps its 64 bits."""
    document: dict[str, Any] = _json(point)
    return document | {name: _short(document[name]) for name in ("vector", "score") if name in document}


def _short(value: Any) -> Any:
    """What is read where a server prints 32-bit numbers: 0.1 is 0.1, and not 0.10000000149011612."""
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_short(part) for part in value]
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _error(said: str) -> dict[str, Any]:
    return {"status": {"error": said}, "time": 0.0}


@contextmanager
def fake_qdrant(version: str = MET) -> Iterator[FakeQdrant]:
    """A server of its own, closed in the end."""
    fake = FakeQdrant(QdrantClient(":memory:"), version)
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = _Listener(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.closed = True
        server.shutdown()
        server.server_close()
        fake.client.close()
