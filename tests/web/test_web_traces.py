"""Traces pass through: W3C's ``traceparent`` in the answer and in the access log."""

import json

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_serving.traces import passed_on

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
