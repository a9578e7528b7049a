"""What `molar serve` costs beside the same questions in process and beside a bare endpoint; how fresh its answers are.

``python bench/serving.py path/to/.molar [--seconds 3] [--update]`` works on a copy (hard links) without events. CPU
seconds are those of the server's process; milliseconds are as the clock has them. Load comes from a bounded number of
connections to a loopback address and ends by itself. Answers in process, over HTTP and of the bare endpoint take turns
of a quarter of a second, so that whatever else the machine does meets them alike. With ``--update`` freshness is
measured once more, beside a running `molar update`.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from molar_indexes.recommender import Recommender
from molar_serving.server import prepare

MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]
BARE = """
import sys, socket, uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
body = b"x" * int(sys.argv[1])
async def answer(request: Request) -> Response:
    await request.body()
    return Response(body, media_type="application/json")
app = Starlette(routes=[Route("/v1/recommendations", answer, methods=["POST"])])
sock = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="error", http="httptools")).run([sock])
"""
PEOPLE, FRESH = 500, 300
TURN, AFTER = 0.25, 0.12  # seconds of a turn, and until what is done after an answer is done: it is kept
CALM = 1.5  # seconds after which an overload is over
Taken = tuple[list[float], float]  # seconds of each answer, CPU seconds of all
Kinds = dict[str, Callable[[float], Awaitable[Taken]]]


@contextmanager
def scratch(workspace: Path) -> Iterator[Path]:
    """The same workspace without events, at another place."""
    with tempfile.TemporaryDirectory(dir=workspace.parent) as folder:
        there = Path(folder) / ".molar"
        without = shutil.ignore_patterns("events", "serving")
        shutil.copytree(workspace, there, copy_function=os.link, ignore=without)
        yield there


class Server:
    """A process that answers, and what it took."""

    def __init__(self, command: list[str]) -> None:
        self.began = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.host, _, port = self.process.stdout.readline().partition(",")[0].strip()[7:].partition(":")
        self.port = int(port)

    def cpu(self) -> float:
        """CPU seconds up to now, of all threads."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text("utf-8").split()[0]) for thread in threads) / 1e9

    def megabytes(self) -> str:
        """Memory that is resident: its own, and with files mapped into it, which processes share."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text("utf-8").splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
        return f"{found['RssAnon'] / 1e3:.0f} MB ({found['VmRSS'] / 1e3:.0f} with mapped files)"

    def brings(self, library: str) -> bool:
        """Whether it has loaded a library."""
        return f"/{library}/" in Path(f"/proc/{self.process.pid}/maps").read_text("utf-8")

    def end(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Connection:
    """One connection that is kept open; a request at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __aenter__(self) -> "Connection":
        self._reader, self._writer = await asyncio.open_connection(self._server.host, self._server.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of an answer; POST where there is a body."""
        content = b"" if body is None else json.dumps(body).encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}"
        self._writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        return int(lines[0].split()[1]), await self._reader.readexactly(length)


async def until_ready(server: Server) -> None:
    """Wait until it answers lists."""
    async with Connection(server) as connection:
        while (await connection.ask("/health/ready"))[0] != 200:
            await asyncio.sleep(0.01)


def summary(taken: list[float], cpu: float) -> dict[str, float]:
    """What answers took, one after the other or at once, and of CPU seconds all of them."""
    taken.sort()
    return {
        "CPU ms": 1000 * cpu / len(taken),
        "p50 ms": 1000 * statistics.median(taken),
        "p99 ms": 1000 * taken[int(0.99 * len(taken))],
    }


async def load(
    server: Server, path: str, body: Callable[[int], Any], seconds: float, connections: int, **headers: str
) -> Taken:
    """Connections that ask one request after the other; what an answer took, and of CPU."""
    taken: list[float] = []
    cpu, end = server.cpu(), time.perf_counter() + seconds

    async def one() -> None:
        async with Connection(server) as connection:
            while (began := time.perf_counter()) < end:
                status, _ = await connection.ask(path, body(next(NUMBERS)), **headers)
                if status == 503 and connections > 1:  # on a busy machine four may be more than it can answer
                    await asyncio.sleep(0.05)
                elif status == 200:
                    taken.append(time.perf_counter() - began)
                else:
                    raise RuntimeError(f"{path} answers {status}")

    await asyncio.gather(*(one() for _ in range(connections)))
    await asyncio.sleep(AFTER)
    return taken, server.cpu() - cpu


async def inside(recommender: Recommender, users: list[str], explain: bool, seconds: float) -> Taken:
    """The same lists in process, as the server asks for them."""
    taken, cpu, end = list[float](), time.process_time(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        recommender.query(users[next(NUMBERS) % len(users)], explain=explain, fallback="popular")
        taken.append(time.perf_counter() - began)
    return taken, time.process_time() - cpu


async def by_turns(
    seconds: float, kinds: dict[str, Callable[[float], Awaitable[Taken]]]
) -> dict[str, dict[str, float]]:
    """What answers of several kinds take, each for some seconds; the first turn of each does not count."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in kinds}
    for turn in range(1 + round(seconds / TURN)):
        for name, kind in kinds.items():
            taken, cpu = await kind(TURN)
            if turn:
                found[name][0].extend(taken)
                found[name][1].append(cpu)
    per_second = {name: len(taken) / (len(cpu) * TURN) for name, (taken, cpu) in found.items()}
    return {name: summary(taken, sum(cpu)) | {"per second": per_second[name]} for name, (taken, cpu) in found.items()}


async def fresh(server: Server, who: Callable[[int], dict[str, str]], items: list[str], tag: str) -> dict[str, float]:
    """Somebody buys the first of their list: milliseconds from sending that to a list which knows it."""
    taken, cpu = list[float](), server.cpu()
    async with Connection(server) as asking, Connection(server) as telling:
        for number in range(FRESH):
            person = who(number)
            told = json.loads((await asking.ask("/v1/recommendations", person))[1])
            item = told["items"][0]["item_id"] if told["known"] else items[number % len(items)]
            event = {"event_id": f"{tag}{number}", "event": "purchase", "item_id": item, **person}
            began = time.perf_counter()
            seq = json.loads((await telling.ask("/v1/events", event))[1])["seq"]
            told = json.loads((await asking.ask("/v1/recommendations", {**person, "wait_for": seq}))[1])
            taken.append(time.perf_counter() - began)
            if told["events"] < seq or item in [one["item_id"] for one in told["items"]] or not told["known"]:
                raise RuntimeError(f"the list of {person} does not know its event")
    within = sum(value <= 0.25 for value in taken) / len(taken)
    return summary(taken, server.cpu() - cpu) | {"within 250 ms, %": 100 * within}


async def measure(workspace: Path, seconds: float, update: bool, table: Table) -> None:
    """All of it."""

    def row(name: str, found: dict[str, float]) -> None:
        table.add_row(name, *(f"{found[column]:,.3g}" if column in found else "" for column in COLUMNS))

    recommender = Recommender.open(workspace)
    store = recommender.generation.users
    users = [record.user_id for record in store.between(0, len(store)) if len(record.history)][:PEOPLE]
    items = list(recommender.generation.table.item_ids())
    server = Server([*MOLAR, "serve", "--port", "0", "--workspace", str(workspace)])
    listening = time.perf_counter() - server.began
    try:
        await until_ready(server)
        ready, cpu, memory = time.perf_counter() - server.began, server.cpu(), server.megabytes()
        for name, explain in {"list": False, "list with reasons": True}.items():

            def body(number: int, explain: bool = explain) -> dict[str, Any]:
                return {"user_id": users[number % len(users)], "explain": explain}

            async with Connection(server) as connection:
                size = max([len((await connection.ask(LISTS, body(number)))[1]) for number in range(100)])
            bare = Server([sys.executable, "-c", BARE, str(size)])
            kinds: Kinds = {
                f"{name}, in process": partial(inside, recommender, users, explain),
                f"{name}, HTTP, one at a time": partial(load, server, LISTS, body, connections=1),
                "  bare Starlette, as many bytes": partial(load, bare, LISTS, body, connections=1),
            }
            try:
                found = await by_turns(seconds, kinds)
            finally:
                bare.end()
            for kind, told in found.items():
                row(kind, told)
            own, over_http = [told["CPU ms"] for told in found.values()][:2]
            row("  HTTP more than in process", {"CPU ms": over_http - own})
            taken, spent = await load(server, LISTS, body, seconds, 4)
            row(f"{name}, HTTP, four at a time", summary(taken, spent) | {"per second": len(taken) / seconds})
            await asyncio.sleep(CALM)  # in an overload reasons are left out
        late = await load(server, LISTS, body, seconds, 1, Prefer="wait=0ms")
        row("Prefer: wait=0ms, the popular list", summary(*late))
        row("event → fsynced → changed list, known", await fresh(server, lambda n: {"user_id": users[n]}, items, "k"))
        new = await fresh(server, lambda n: {"anonymous_id": f"n{n}"}, items, "n")
        row("event → fsynced → first list, never seen", new)
        for batch in (1, 100):
            sent = await load(server, "/v1/events", lambda n, batch=batch: events(n, batch, users, items), seconds, 16)
            told = summary(*sent) | {"per second": batch * len(sent[0]) / seconds}
            row(f"events, {batch} a request, 16 at a time", told)
        if update:
            with updating(workspace):
                known = await fresh(server, lambda n: {"user_id": users[-1 - n]}, items, "u")
                row("event → changed list, beside `molar update`", known)
        torch = "loaded" if server.brings("torch") else "not loaded"
        table.caption = (
            f"listening after {listening:.1f} s, ready after {ready:.1f} s ({cpu:.1f} CPU s)\n"
            f"{memory} when it is ready, {server.megabytes()} in the end; torch is {torch}"
        )
    finally:
        server.end()
        recommender.close()


COLUMNS = ("CPU ms", "per second", "p50 ms", "p99 ms", "within 250 ms, %")
LISTS, NUMBERS = "/v1/recommendations", count()
_sent = 0


def events(number: int, batch: int, users: list[str], items: list[str]) -> list[dict[str, str]]:
    """New events."""
    global _sent
    _sent += batch
    return [
        {
            "event_id": f"b{_sent - one}", "event": "view_item", "user_id": users[(number + one) % len(users)],
            "item_id": items[(7 * number + one) % len(items)],
        }
        for one in range(batch)
    ]  # fmt: skip


@contextmanager
def updating(workspace: Path) -> Iterator[None]:
    """A `molar update` that runs meanwhile; it is ended where it takes longer."""
    running = subprocess.Popen([*MOLAR, "update", "--workspace", str(workspace), "--quiet"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of molar serve.")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    prepare()
    table = Table(*("", *COLUMNS), title=f"molar serve, {arguments.workspace}")
    with scratch(arguments.workspace.resolve()) as workspace:
        asyncio.run(measure(workspace, arguments.seconds, arguments.update, table))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
