"""Traces pass through: W3C's ``traceparent`` in the answer and in the access log."""

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_retrieval.errors import BackendError
from molar_serving.observability import Spans, passed_on

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("sent", "flags"),
    [
        (GOOD, "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f"00-{TRACE}-{SPAN}-ff", "01"),
        (f"01-{TRACE}-{SPAN}-01", "01"),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", "01"),
    ],
)
def test_a_trace_goes_on_with_the_span_of_the_request(sent, flags):
    assert passed_on([sent], "a" * 32) == (TRACE, f"00-{TRACE}-{'a' * 16}-{flags}")


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [GOOD, GOOD],
        [""],
        [GOOD.upper()],
        [f"{GOOD} "],
        [f"{GOOD}\n"],
        [f"{GOOD}-more"],
        [f"ff-{TRACE}-{SPAN}-01"],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE[1:]}-{SPAN}-01"],
        [f"cc-{TRACE}-{SPAN}-01.later"],
        ["x" * 100_000],
    ],
)
def test_what_is_no_trace_is_not_heeded(sent):
    assert passed_on(sent, "a" * 32) is None


def test_answers_problems_and_the_access_log_tell_the_trace(trained, tmp_path):
    workspace = copy_workspace(trained.workspace, tmp_path / ".molar")
    (tmp_path / "molar.toml").write_text("[serve]\naccess_log = true\n")
    with client_of(workspace) as client:
        for path, status in (("/v1/recommendations?user_id=u", 200), ("/v1/recommendations?k=0", 422)):
            told = client.get(path, headers={"traceparent": GOOD})
            assert told.status_code == status
            span = told.headers["x-request-id"][:16]
            assert told.headers["traceparent"] == f"00-{TRACE}-{span}-01"
        assert "traceparent" not in client.get("/health/live", headers={"traceparent": "00-x"}).headers
        assert "traceparent" not in client.get("/health/live").headers
    lines = [json.loads(line) for line in (workspace / "serving" / "access.jsonl").read_text().splitlines()]
    assert [line["trace"] for line in lines[-4:]] == [TRACE, TRACE, None, None]


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An address that takes what OpenTelemetry sends, and the bodies that came."""
    bodies: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def traced(trained, tmp_path):
    """A copy of the demo shop whose requests are spans."""
    (tmp_path / "molar.toml").write_text("[serve]\nopentelemetry = true\n")
    return copy_workspace(trained.workspace, tmp_path / ".molar")


def test_each_request_is_a_span_in_the_trace_of_who_asked_and_names_nobody(traced, monkeypatch):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (address, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=shop")
        with client_of(traced) as client:
            sent = {"traceparent": GOOD, "tracestate": "vendor=1"}
            told = client.get("/v1/recommendations?user_id=somebody", headers=sent)
            alone = client.get("/nowhere/somebody")
            unread = client.get("/v1/recommendations?k=0")
            client.get("/health/live", headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
        assert (told.status_code, alone.status_code, unread.status_code) == (200, 404, 422)
    sent = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    resource = {one.key: one.value.string_value for one in sent[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "molar"
    assert resource["deployment.environment"] == "shop"
    spans = [s for one in sent for r in one.resource_spans for scope in r.scope_spans for s in scope.spans]
    by_id = {span.span_id.hex(): span for span in spans}
    first = by_id[told.headers["x-request-id"][:16]]
    assert (first.name, first.trace_id.hex(), first.parent_span_id.hex()) == ("GET /v1/recommendations", TRACE, SPAN)
    assert first.trace_state == "vendor=1"
    assert 0 < first.end_time_unix_nano - first.start_time_unix_nano < 60e9
    facts = {a.key: a.value.string_value or a.value.int_value for a in first.attributes}
    assert facts == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/v1/recommendations",
    }
    nowhere = by_id[alone.headers["x-request-id"][:16]]
    assert (nowhere.name, nowhere.parent_span_id) == ("GET", b"")
    assert nowhere.trace_id.hex() != TRACE
    assert unread.headers["x-request-id"][:16] in by_id
    assert "GET /health/live" not in {s.name for s in spans if s.parent_span_id.hex() == SPAN}, "it was not sampled"
    assert b"somebody" not in b"".join(bodies)


def test_a_collector_that_is_down_is_no_reason_not_to_answer(traced, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with client_of(traced) as client:
        assert client.get("/v1/recommendations?user_id=u").status_code == 200


def test_without_the_extra_the_setting_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BackendError, match="is not installed") as raised:
        Spans()
    assert "molar-retrieval[tracing]" in raised.value.hint
