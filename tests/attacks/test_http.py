"""The server on a network.

What is sent are bytes over connections; `tests/web` asks in order.
"""

import random
import socket
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "web"))
from test_web_connections import BODY, EVENTS, LIVE, connected, everything, statuses
from web_server import program

HOST = b"Host: 127.0.0.1\r\n"
BASES = (
    LIVE,
    LIVE * 3,
    EVENTS + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    EVENTS + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n" + LIVE,
    b"GET /v1/recommendations?user_id=u&k=3 HTTP/1.1\r\n" + HOST + b"Prefer: wait=50ms\r\n\r\n",
    b"POST /v1/recommendations HTTP/1.1\r\n" + HOST + b'Content-Length: 26\r\n\r\n{"user_id": "u", "k": 3   }',
    b"OPTIONS /v1/events HTTP/1.1\r\n"
    + HOST
    + b"Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
)
PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"%", b"%00", b"%2e%2e/", b"\xff", b"0", b"-1",
    b"9" * 25, b"chunked", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", HOST, LIVE,
    b"Transfer-Encoding:\x0bchunked\r\n", b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/2", b"X: " + b"a" * 9_000 + b"\r\n",
)  # fmt: skip


@pytest.fixture
def server(shop):
    with program(shop.workspace) as server:
        yield server


@pytest.fixture
def place(server):
    host, _, port = server.address.removeprefix("http://").partition(":")
    return host, int(port)


def mutated(chance: random.Random) -> bytes:
    """Requests with some bytes taken out, put in or changed."""
    found = bytearray(chance.choice(BASES))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            del found[at : at + chance.randint(1, 20)]
        elif kind == 1:
            found[at : at + 1] = bytes([chance.randrange(256)])
        else:
            found[at:at] = chance.choice(PIECES)
    return bytes(found)


def test_bytes_made_up_at_random(place, server, rounds, measured):
    """Whatever bytes come, no answer is a fault of the server, its log stays empty and the next answer is in time."""
    chance, number, seen = random.Random(1), rounds(150, 3_000), {}
    for _ in range(number):
        sent = mutated(chance)
        with connected(place) as sock:
            cut = chance.randrange(len(sent) + 1) if chance.random() < 0.3 else len(sent)
            try:
                sock.sendall(sent[:cut])
                sock.sendall(sent[cut:])
                if chance.random() < 0.5:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            answer = everything(sock, 0.03)
        for status in statuses(answer):
            assert status < 500 or status in (501, 503), (sent, answer)
            seen[status] = seen.get(status, 0) + 1
        assert b"Traceback" not in answer
    began = time.perf_counter()
    with server.client() as client:
        assert client.get("/health/live").status_code == 200
    assert time.perf_counter() - began < 1
    server.process.terminate()
    assert server.process.stderr.read() == ""  # nobody fills the server's log by what they send
    assert {200, 400} <= seen.keys()
    measured(f"{number:,} connections: " + ", ".join(f"{seen[status]:,} × {status}" for status in sorted(seen)))


@pytest.mark.alone
def test_slow_connections(place, server, rounds, measured):
    """Connections that never ask, or ask a byte at a time, keep nobody else from an answer."""
    number, chance, slow, took = rounds(300, 3_000), random.Random(2), [], []
    for _ in range(number):
        sock = connected(place)
        sock.sendall(chance.choice(BASES)[: chance.randrange(40)])
        slow.append(sock)
    with server.client() as client:
        for _ in range(100):
            for sock in chance.sample(slow, 20):
                try:
                    sock.sendall(b"a")
                except OSError:
                    continue
            began = time.perf_counter()
            assert client.get("/health/live").status_code == 200
            took.append(time.perf_counter() - began)
    for sock in slow:
        sock.close()
    assert sorted(took)[50] < 0.1
    measured(f"{number:,} connections, health in {1000 * sorted(took)[50]:.1f} ms (median of 100)")
