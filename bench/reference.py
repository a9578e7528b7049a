"""Freeze what molar answers today, and compare what it answers after a change of its structure.

    python bench/reference.py freeze  .work/reference [--figures] [--attacks]
    python bench/reference.py compare .work/reference

`freeze` writes `reference.json`; `compare` computes the same again with the present code, prints every difference and
exits with 1 if there is one. Everything is asked through public surfaces (the command line and HTTP), so that a change
of the layout does not touch this script; a renamed option or key is changed here and in the frozen file (`--rename`).

Sections:

* `shops`: six small data sets (demo, CSV in cp1252 with a semicolon, JSON lines, Parquet, events only, file and
  events): vectors and model weights as digests per tensor, facts of `embed` and `align`, lists with scores.
* `http`: answers of the demo shop for 50 users, sessions, searches and other endpoints.
* `findings`: faults planted into the demo shop and those that `molar check` finds (`bench/check.py`).
* `figures` (with --figures, some minutes): metrics of `molar evaluate --suite quick` on the demo shop.
* `attacks` (with --attacks, some minutes): the outcome of each attack of `tests/attacks`.

Training uses one thread, so that all numbers are equal bit for bit on one machine. Another machine, or other versions
of torch and NumPy, need a reference of their own.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

MOLAR = [sys.executable, "-c", "from molar_cli.app import main; main()"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MOLAR_ALIGN_THREADS": "1", "PYTHONHASHSEED": "0"}
USERS, ITEMS = 50, 150
SCOPES = "answer,events,catalogue,rules,studio,admin"
VOLATILE = re.compile(
    r"seconds|milliseconds|_at$|^(recommendation_id|next|generation|version|path|page|fingerprint|catalogue|workspace|"
    r"catalog|content|alignment|interactions|cf|memory|bytes|generations|started|took|rate|per_second|folder|device|"
    r"threads|instance|molar|libraries|energy|money|mib|space|date|out|manifest|id|items_per_second|code|commit)$"
)
"""Keys of results that differ between two runs of the same code."""


def molar(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; its standard output.

    Raises:
        SystemExit: If it fails, with what it said.
    """
    done = subprocess.run(
        [*MOLAR, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **ONE_THREAD, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"molar {' '.join(map(str, arguments))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def stable(value: Any) -> Any:
    """The value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: stable(inner) for key, inner in value.items() if not VOLATILE.search(key)}
    return [stable(inner) for inner in value] if isinstance(value, list) else value


def last_json(text: str) -> Any:
    """The JSON document in the output of a command."""
    return stable(json.loads(text[text.index("{") :]))


def tensors(workspace: Path) -> dict[str, int]:
    """How often each tensor is stored, by type, shape and digest; names of files and tensors do not count."""
    found: Counter[str] = Counter()
    for path in sorted(workspace.rglob("*.safetensors")):
        raw = path.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        for name, facts in json.loads(raw[8 : 8 + size]).items():
            if name != "__metadata__":
                begin, end = facts["data_offsets"]
                digest = hashlib.blake2b(raw[8 + size + begin : 8 + size + end], digest_size=8).hexdigest()
                found[f"{facts['dtype']} {facts['shape']} {digest}"] += 1
    return dict(sorted(found.items()))


def lists(shop: Path) -> list[dict[str, Any]]:
    """The lists of all users, as `molar recommend` writes them."""
    molar("recommend", "--out", "lists.parquet", "-k", "10", "--no-explore", "--quiet", cwd=shop)
    return stable(pq.read_table(shop / "lists.parquet").to_pylist())


# --- data sets -------------------------------------------------------------------------------------------------------


def demo_shop(folder: Path) -> None:
    """The demo shop with the preset `default`."""
    molar("demo", folder, "--quiet", cwd=folder.parent)


def _plain(table: pa.Table) -> pa.Table:
    """A table without lists and structures, as CSV needs it."""
    nested = [f.name for f in table.schema if pa.types.is_nested(f.type) or pa.types.is_binary(f.type)]
    return table.drop_columns(nested)


def _pieces(demo: Path) -> tuple[pa.Table, pa.Table]:
    """The first items of the demo shop, and the interactions with them."""
    items = pq.read_table(demo / "shop" / "items.parquet").slice(0, ITEMS)
    log = pq.read_table(demo / "shop" / "interactions.parquet")
    return items, log.filter(pc.is_in(log["item_id"], items["item_id"])).combine_chunks()


def _photos(demo: Path, folder: Path) -> None:
    shutil.copytree(demo / "shop" / "images", folder / "catalog" / "images")


def _json_lines(table: pa.Table, path: Path) -> None:
    rows = (json.dumps(row, default=str, ensure_ascii=False) for row in table.to_pylist())
    path.write_text("\n".join(rows) + "\n", "utf-8")


def _events(log: pa.Table, folder: Path) -> None:
    """Append a log by `molar events append`."""
    rows = log.select(["user_id", "item_id", "timestamp"]).to_pylist()
    lines = (json.dumps({**row, "event": "purchase", "event_id": f"e{n}"}, default=str) for n, row in enumerate(rows))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    molar("events", "append", "events.jsonl", "--quiet", cwd=folder)


def csv_shop(folder: Path, demo: Path) -> None:
    """CSV as a German merchandise system writes it, found out by `molar init`; with photos."""
    items, log = _pieces(demo)
    catalog = folder / "catalog"
    _photos(demo, folder)
    german = {"item_id": "Artikelnummer", "title": "Bezeichnung", "description": "Beschreibung", "price": "Preis"}
    for table, name, names in (
        (items, "items.csv", german),
        (log, "interactions.csv", {"user_id": "Kundennummer", "item_id": "Artikelnummer", "timestamp": "Zeitpunkt"}),
    ):
        named = _plain(table).rename_columns([names.get(c, c) for c in _plain(table).column_names])
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(named, sink, pyarrow.csv.WriteOptions(delimiter=";", quoting_style="needed"))
        text = sink.getvalue().to_pybytes().decode("utf-8")
        (catalog / name).write_bytes(text.encode("cp1252", "replace"))
    molar("init", "catalog", "--time-zone", "Europe/Berlin", "--decimal", ".", "--quiet", cwd=folder)


def json_lines_shop(folder: Path, demo: Path) -> None:
    """JSON lines, without photos."""
    items, log = _pieces(demo)
    (folder / "catalog").mkdir()
    _json_lines(items, folder / "catalog" / "items.jsonl")
    _json_lines(log, folder / "catalog" / "interactions.jsonl")


def parquet_shop(folder: Path, demo: Path) -> None:
    """Parquet, with photos."""
    items, log = _pieces(demo)
    _photos(demo, folder)
    pq.write_table(items, folder / "catalog" / "items.parquet")
    pq.write_table(log, folder / "catalog" / "interactions.parquet")


def events_shop(folder: Path, demo: Path) -> None:
    """A catalogue without a log; all interactions are events."""
    items, log = _pieces(demo)
    (folder / "catalog").mkdir()
    pq.write_table(items, folder / "catalog" / "items.parquet")
    molar("embed", "catalog", "--quiet", cwd=folder)
    _events(log, folder)


def both_shop(folder: Path, demo: Path) -> None:
    """A log in a file, and events after it."""
    items, log = _pieces(demo)
    (folder / "catalog").mkdir()
    log = log.sort_by("timestamp")
    pq.write_table(items, folder / "catalog" / "items.parquet")
    pq.write_table(log.slice(0, len(log) // 2), folder / "catalog" / "interactions.parquet")
    molar("embed", "catalog", "--quiet", cwd=folder)
    _events(log.slice(len(log) // 2), folder)


SHOPS: dict[str, Callable[[Path, Path], None]] = {
    "csv": csv_shop,
    "json_lines": json_lines_shop,
    "parquet": parquet_shop,
    "events": events_shop,
    "file_and_events": both_shop,
}


# --- sections --------------------------------------------------------------------------------------------------------


def shops(place: Path) -> dict[str, Any]:
    """What becomes of each data set."""
    demo = place / "demo"
    demo_shop(demo)
    found: dict[str, Any] = {"demo": {"tensors": tensors(demo / ".molar"), "lists": lists(demo)}}
    for name, write in SHOPS.items():
        folder = place / name
        folder.mkdir()
        write(folder, demo)
        facts = {
            "embed": last_json(molar("embed", "catalog", "--json", cwd=folder)),
            "align": last_json(molar("align", "--preset", "instant", "--json", cwd=folder)),
        }
        found[name] = facts | {"tensors": tensors(folder / ".molar"), "lists": lists(folder)}
    return found


def until_ready(client: httpx.Client, seconds: float = 60) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + seconds
    while client.get("/health/ready").status_code != 200:
        if time.monotonic() > end:
            raise SystemExit(f"the server is not ready: {client.get('/health/ready').text}")
        time.sleep(0.05)


@contextmanager
def served(shop: Path) -> Iterator[httpx.Client]:
    """A client of `molar serve` with an administrator's key."""
    made = json.loads(molar("keys", "add", "reference", "--scopes", SCOPES, "--json", cwd=shop))
    process = subprocess.Popen(
        [*MOLAR, "serve", "--port", "0"],
        cwd=shop,
        env={**os.environ, **ONE_THREAD, "MOLAR_SERVE_DEADLINE": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().partition(",")[0].strip()
        transport = httpx.HTTPTransport(retries=5)
        headers = {"Authorization": f"Bearer {made['key']}"}
        with httpx.Client(base_url=address, timeout=60, transport=transport, headers=headers) as client:
            until_ready(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def http(place: Path) -> dict[str, Any]:
    """Answers over HTTP for the demo shop."""
    shop = place / "demo"
    log = pq.read_table(shop / "shop" / "interactions.parquet")
    users = sorted(set(log["user_id"].to_pylist()))
    users = users[:: max(1, len(users) // USERS)][:USERS]
    items = sorted(set(log["item_id"].to_pylist()))
    quiet = {"dry_run": True, "k": 10}
    lists = "/v1/recommendations"
    asked: dict[str, tuple[str, str, dict[str, Any] | None]] = {}
    for user in users:
        asked[f"{user}: reasons"] = ("POST", lists, {**quiet, "user_id": user, "explore": False, "explain": True})
        asked[f"{user}: seen"] = ("POST", lists, {**quiet, "user_id": user, "explore": False, "filter_seen": False})
        asked[f"{user}: diverse"] = ("POST", lists, {**quiet, "user_id": user, "explore": False, "diversity": 0.5})
        asked[f"{user}: explore"] = ("POST", lists, {**quiet, "user_id": user})
    for user in users[:10]:
        body = {**quiet, "user_id": user, "explore": False}
        asked[f"{user}: horizon"] = ("POST", lists, {**body, "objective": "future_items"})
        asked[f"{user}: where"] = ("POST", lists, {**body, "where": "price < 40"})
        asked[f"{user}: calibrated"] = ("POST", lists, {**body, "calibrate": "category"})
        asked[f"{user}: ranking"] = ("POST", "/v1/rankings", {"items": items[:30], "user_id": user, "dry_run": True})
        asked[f"{user}: search"] = ("POST", "/v1/search", {**quiet, "user_id": user, "text": "red leather"})
    for number in range(0, len(items), max(1, len(items) // 20)):
        item = items[number]
        asked[f"{item}: session"] = ("POST", lists, {**quiet, "session": [item], "explore": False})
        asked[f"{item}: similar"] = ("GET", f"/v1/items/{item}/similar?k=10&dry_run=true", None)
    for words in ("black dress", "a gift for a boy", "wool", "zzz"):
        asked[f"search: {words}"] = ("POST", "/v1/search", {**quiet, "text": words})
    asked["unknown user"] = ("POST", lists, {**quiet, "user_id": "nobody"})
    asked["unknown key"] = ("POST", lists, {"user_id": users[0], "colour": "red"})
    asked["wrong condition"] = ("POST", lists, {"user_id": users[0], "where": "price <"})
    asked["unknown item"] = ("GET", "/v1/items/none/similar?dry_run=true", None)
    for path in ("/v1/rules", "/v1/experiments", f"/v1/users/{users[0]}"):
        asked[path] = ("GET", path, None)
    found: dict[str, Any] = {}
    with served(shop) as client:
        for name, (method, path, body) in asked.items():
            reply = client.request(method, path, json=body)
            found[name] = {"status": reply.status_code, "body": stable(reply.json())}
    return found


def findings(place: Path) -> dict[str, Any]:
    """Planted faults and those that are found."""
    import check

    found = check.planted(place / "demo" / "shop", each=8, seeds=1)
    return {"kinds": found["kinds"], "clean_items_with_errors": found["clean_items_with_errors"]}


def figures(place: Path) -> dict[str, Any]:
    """Metrics of the suite `quick` on the demo shop."""
    out = place / "run"
    molar("evaluate", place / "demo" / "shop", "--suite", "quick", "--seeds", "1", "--out", out, "--quiet", cwd=place)
    return stable(json.loads((out / "report.json").read_text("utf-8")))


def attacks(_: Path) -> dict[str, Any]:
    """Outcome of each attack."""
    import attacks as bench

    _code, found = bench.attack(["-p", "no:cacheprovider"])
    return {f"{one['promise']} [{one['case']}]": one["outcome"] for one in found}


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Every place in which two results differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if key not in after:
                yield f"{where}/{key}: gone (was {brief(before[key])})"
            elif key not in before:
                yield f"{where}/{key}: new ({brief(after[key])})"
            else:
                yield from differences(before[key], after[key], f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{where}/{number}")
    elif before != after:
        yield f"{where}: {brief(before)} → {brief(after)}"


def brief(value: Any) -> str:
    """A value in some words."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) < 100 else f"{text[:97]}..."


def measured(sections: list[Callable[[Path], dict[str, Any]]]) -> dict[str, Any]:
    """The result of each section, in JSON's types."""
    with tempfile.TemporaryDirectory(prefix="molar-reference-") as place:
        found = {}
        for section in sections:
            print(f"{section.__name__} ...", flush=True)
            found[section.__name__] = section(Path(place))
    return json.loads(json.dumps(found, default=str))


def main() -> int:
    """Freeze or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("freeze", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--attacks", action="store_true")
    parser.add_argument("--rename", nargs=2, action="append", default=[], metavar=("OLD", "NEW"))
    arguments = parser.parse_args()
    path = arguments.folder / "reference.json"
    optional = {"figures": figures, "attacks": attacks}
    if arguments.what == "freeze":
        sections = [shops, http, findings, *(run for name, run in optional.items() if getattr(arguments, name))]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measured(sections), ensure_ascii=False, indent=0, sort_keys=True), "utf-8")
        return 0
    text = path.read_text("utf-8")
    for old, new in arguments.rename:
        text = re.sub(rf'"{re.escape(old)}"(?=:)', json.dumps(new), text)
    before = json.loads(text)
    known = {"shops": shops, "http": http, "findings": findings, **optional}
    after = measured([known[name] for name in known if name in before])
    found = list(differences(before, after))
    print("\n".join(found[:200]) + (f"\n... {len(found) - 200} more" if len(found) > 200 else ""))
    print(f"{len(found)} differences")
    return min(1, len(found))


if __name__ == "__main__":
    sys.exit(main())
