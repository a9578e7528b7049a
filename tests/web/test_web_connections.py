"""What comes over a connection before anybody thinks about it: too long, too slow, or to be understood in two ways."""

import asyncio
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import uvicorn
from copies import copy_workspace
from web_server import client_of, program

from molar_serving import connections
from molar_serving.connections import most_connections

LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
EVENTS = b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("connections") / ".molar")
    with program(workspace) as server:
        yield server


@pytest.fixture(scope="module")
def place(server):
    host, _, port = server.address.removeprefix("http://").partition(":")
    return host, int(port)


def connected(place, seconds=10):
    return socket.create_connection(place, timeout=seconds)


def told(place, *pieces, seconds=10):
    """All that comes back until the server ends the connection, or nothing more comes for half a second."""
    with connected(place) as sock:
        with suppress(ConnectionResetError, BrokenPipeError):  # it was refused while we were still sending
            for piece in pieces:
                sock.sendall(piece)
        return everything(sock, 0.5)


def everything(sock, quiet):
    sock.settimeout(quiet)
    found = b""
    try:
        while piece := sock.recv(65_536):
            found += piece
    except TimeoutError:
        found += b"...and it stays open"
    except ConnectionResetError:
        pass
    return found


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


BODY = b'{"event": "view_item"}'
SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        EVENTS + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        EVENTS + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        EVENTS + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        EVENTS + b"Content-Length: +4\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length: 4, 4\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length: 0x4\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Content-Length : 4\r\n\r\n{}  " + SMUGGLED,
        EVENTS + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        EVENTS + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        EVENTS + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        EVENTS + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        EVENTS + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n" + SMUGGLED,
        EVENTS + b"X: 1\r\n folded\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        EVENTS + b"X: 1\nY: 2\r\n\r\n" + SMUGGLED,
        EVENTS + b"X: 1\rY: 2\r\n\r\n" + SMUGGLED,
        EVENTS + b"X: a\x00b\r\n\r\n" + SMUGGLED,
        EVENTS + b"Host: 127.0.0.1\r\n\r\n" + SMUGGLED,
        EVENTS + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n" + SMUGGLED,
        b"POST /v1/events HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"GET /health/live HTTP/1.1\nHost: 127.0.0.1\n\n" + SMUGGLED,
        b"GET /health/live HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n" + SMUGGLED,
        b"GET /health/live\r\n\r\n" + SMUGGLED,
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + SMUGGLED,
        b"GET /\x01 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + SMUGGLED,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n" + SMUGGLED,
    ],
)
def test_what_two_servers_may_understand_in_two_ways_ends_the_connection(place, request_):
    answer = told(place, request_)
    assert statuses(answer) == [400], answer
    assert b"stays open" not in answer
    assert b"connection: close" in answer.lower()
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (EVENTS + b"Content-Length: 2000000\r\n\r\n", 413),
        (EVENTS + b"Content-Length: 9999999999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (EVENTS + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 40, 413),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /v1/recommendations?" + b"a=1&" * 2_500 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 300_000, 414),
        (LIVE[:-2] + b"X: 1\r\n" * 120 + b"\r\n", 431),
        (LIVE[:-2] + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (LIVE[:-2] + b"X: " + b"a" * 400_000, 431),
        (LIVE[:-2] + b"X" * 40_000, 431),
        (LIVE[:-2] + b"X: 1\r\n" * 400_000, 431),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_read(place, request_, wanted):
    answer = told(place, request_, seconds=5)
    assert not answer or statuses(answer) == [wanted], answer[:300]  # b"": we were still sending when it was refused
    assert len(request_) > 100_000 or answer


def test_requests_in_one_go_are_answered_in_their_order(place):
    asked = [LIVE, b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"] * 100
    body = EVENTS + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    answer = told(place, b"".join([*asked, body]) + LIVE)
    assert statuses(answer) == [200, 404] * 100 + [400, 200]
    cut = told(place, LIVE * 3 + b"nonsense\r\n\r\n" + LIVE)
    assert statuses(cut) == [200] * len(statuses(cut))


def test_a_body_in_pieces_and_what_follows_it(place):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:5], BODY[5:9], BODY[9:])) + b"0\r\n\r\n"
    answer = told(place, EVENTS + b"Transfer-Encoding: chunked\r\n\r\n", chunks[:9], chunks[9:] + LIVE)
    assert statuses(answer) == [400, 200]
    assert b"stays open" in answer


def test_an_offer_of_another_protocol_is_answered_in_this_one(place):
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = told(place, LIVE[:-2] + upgrade + b"\r\n", SMUGGLED)
    assert statuses(answer) == [200]
    assert b"stays open" not in answer
    with_body = EVENTS + upgrade + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + SMUGGLED
    assert statuses(told(place, with_body)) == [400]


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(place):
    with connected(place) as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        seconds, answer = dripped(sock, b" ", 0.2, 9)
    assert statuses(answer) == [404]
    assert seconds < 6
    small = b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n"
    assert statuses(told(place, small, b"12345", b"67890" + LIVE)) == [404, 200]


@pytest.fixture
def slow(place):
    """1,000 connections that sent a part of a head, and some nothing."""
    assert most_connections() > 2_000  # of this process: it asks for files
    made = []
    for n in range(1_000):
        sock = connected(place)
        sock.sendall(LIVE[: n % 40])
        made.append(sock)
    yield made
    for sock in made:
        sock.close()


@pytest.mark.alone
def test_slow_heads_keep_nobody_from_being_answered(slow, server):
    took = []
    with server.client() as client:
        for _ in range(50):
            began = time.perf_counter()
            assert client.get("/health/live").status_code == 200
            took.append(time.perf_counter() - began)
    assert sorted(took)[25] < 0.1


def test_slow_heads_end_after_ten_seconds(slow, place):
    began = time.monotonic()
    with ThreadPoolExecutor(9) as pool:
        lively = pool.submit(empty_lines, place)
        answers = list(pool.map(lambda sock: everything(sock, 20), slow))
        seconds, found = lively.result()
    assert time.monotonic() - began < 15
    for n, answer in enumerate(answers):
        assert statuses(answer) == ([408] if n % 40 else []), answer
    assert statuses(found)[0] == 200
    assert seconds < 14


def empty_lines(place):
    """Send empty lines after an answer, which are no request; how long that goes on, and what comes back."""
    with connected(place) as sock:
        sock.sendall(LIVE)
        return dripped(sock, b"\r\n", 0.5, 20)


def dripped(sock, piece, pause, most):
    """Send a piece again and again until the connection ends; after how many seconds, and what came back."""
    began, found = time.monotonic(), b""
    sock.settimeout(pause)
    while time.monotonic() - began < most:
        try:
            sock.sendall(piece)
            came = sock.recv(65_536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
        if not came:
            break
        found += came
    return time.monotonic() - began, found


def test_a_full_house_makes_room_by_ending_who_waits_longest(monkeypatch):
    """With more connections than may be, those on which nothing is asked end, and a new one is answered."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr(connections, "most_connections", lambda: 20)

    async def tried():
        config = uvicorn.Config(app, http=connections.BoundedProtocol, port=0, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        await asyncio.sleep(0.1)
        left = len(server.server_state.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVE)
        first = await reader.readline()
        server.should_exit = True
        for _, other in waiting:
            other.close()
        writer.close()
        await task
        return left, first

    left, first = asyncio.run(tried())
    assert 10 <= left <= 20
    assert first.startswith(b"HTTP/1.1 200")


@pytest.mark.alone
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000, b'{"a":' * 100_000, b"NaN", b'{"k": 1e999}', b'{"k": ' + b"9" * 400 + b"}", b'"\\ud800"',
        b'{"user_id": "\\ud800"}', b'"\xed\xa0\x80"', b"\xff\xfe{\x00}\x00", b'{"\xff": 1}', b"", b"null", b"[]", b"0",
        b'{"user_id": "u", "k": 1, "k": 100000}', b'{"user_id": null}', b'{"where": "' + b"(" * 4_000 + b'"}',
        b'{"' + b"a" * 100_000 + b'": 1}', b'{"user_id": "u", "exclude": [' + b"[" * 990 + b"]" * 990 + b"]}",
    ],
)  # fmt: skip
def test_odd_json_is_refused_in_time_and_in_few_words(client, body):
    for path in ("/v1/recommendations", "/v1/events"):
        began = time.perf_counter()
        answer = client.post(path, content=body)
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
        assert time.perf_counter() - began < 1
        assert len(answer.content) < 4_000
        if answer.headers["content-type"].startswith("application/problem"):
            assert answer.json()["remedy"]
    deep = {"event": "view_item", "event_id": "deep", "user_id": "u", "item_id": "SKU-0001", "more": "here"}
    text = json.dumps(deep).replace('"here"', "[" * 900 + "]" * 900)
    assert client.post("/v1/events", content=text).status_code < 500


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("odd") / ".molar")
    with client_of(workspace) as client:
        yield client


def test_a_parameter_that_is_named_twice_is_refused(client):
    answer = client.get("/v1/recommendations?user_id=u&user_id=v")
    assert (answer.status_code, answer.json()["detail"]) == (422, "a parameter is named twice")
