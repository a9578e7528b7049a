"""What docs/operations.md tells to do is done, block by block, on a demo shop; and a demo shop lives for days."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import molar

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """A small shop that has lived for 14 days, and the report."""
    folder = tmp_path_factory.mktemp("days") / "demo"
    made = molar.demo(folder, items=60, users=80, arriving=True)
    made.shop.embed()
    made.shop.align(preset="instant")
    return folder, made, made.live(14)


def test_a_shop_lives_for_a_fortnight(days):
    _, made, report = days
    assert [day.day for day in report.days] == list(range(1, 15))
    assert sum(day.visits for day in report.days) > 40
    assert sum(day.purchases for day in report.days) > 20
    assert report.days[0].churn is None
    first, last = report.days[:4], report.days[-4:]
    assert sum(day.ndcg for day in last) > 0.8 * sum(day.ndcg for day in first) > 0.2
    arrived = [day.arrived_items for day in report.days]
    assert arrived[-1] > arrived[0] > 0
    assert sum(day.arrived for day in report.days) > 0  # somebody saw a new item
    log = made.shop.events.table().to_pandas()
    assert set(log["event"]) >= {"impression", "click", "purchase", "item_upsert"}
    shown = log[log["event"] == "impression"]
    assert (shown["position"] >= 1).all()
    assert shown["request_id"].notna().all()
    assert made.shop.generations()[-1].items == 60  # those that are withdrawn keep their purchases


def test_the_page_and_the_picture_show_every_day(days, tmp_path):
    from molar.days import picture

    _, _, report = days
    page = report.write_page(tmp_path / "days.html").read_text("utf-8")
    assert page.count("<tr><td>") == 14
    assert page.count('class="line ours"') == 6
    assert picture(report).startswith("<svg")
    assert len(report.to_frame()) == len(json.loads(json.dumps(report.to_dict()))["days"]) == 14


def event(number, kind, item_id, **more):
    moment = (datetime.now(UTC) - timedelta(minutes=60 - number)).isoformat()
    return {"event_id": f"op{number}", "event": kind, "item_id": item_id, "timestamp": moment, **more}


def write(folder, name, *events):
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in events), "utf-8")


def blocks():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_document_work(days, shell):
    folder, made, _ = days
    live = pq.read_table(folder / "shop" / "items.parquet")["item_id"].to_pylist()
    events = made.shop.events.table().to_pandas()
    log = pq.read_table(folder / "shop" / "interactions.parquet").to_pandas()
    taken = {*log.query("user_id == 'u0001'")["item_id"], *events.query("user_id == 'u0001'")["item_id"]}
    taken |= set(events.query("event == 'item_withdraw' or event == 'item_upsert'")["item_id"])
    first, second, third = [item_id for item_id in live if item_id not in taken][:3]
    write(folder, "orders.jsonl", event(1, "purchase", first, user_id="u0001", transaction_id="T1"))
    write(folder, "stock.jsonl", event(2, "item_upsert", second, data={"stock": 0}))
    season = {"title": "Winter coat Halden", "category": "Coats", "price": 99.0, "released": 2025}
    write(folder, "season.jsonl", event(3, "item_upsert", "W-1", data=season), event(4, "item_withdraw", third))
    back = event(6, "return", first, user_id="u0001", transaction_id="T1")
    write(folder, "corrected.jsonl", event(5, "item_upsert", second, data={"stock": 7}), back)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"OMP_NUM_THREADS": "1", "MOLAR_ALIGN_PRESET": "instant"}

    def cold(block, folder, **more):
        return subprocess.run(
            ["bash", "-euc", block], cwd=folder, env={**os.environ, "PATH": path, **more},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def run(block, by=shell):
        done = by(block, folder, **environment)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    every, orders, night, season_, rolled, damaged, wrong, killed, backup = blocks()
    assert "1 accepted" in run(every)
    with molar.Shop(None, folder / ".molar").recommender() as recommender:
        assert not recommender.query("u0001", candidates=[first, second]).items  # bought, and sold out
    rows = [
        f"{user},{first},{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}" for user in ("u0002", "u0003")
    ]
    (folder / "orders-of-today.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]), "utf-8")
    assert "2 accepted" in run(orders)
    assert "2 repeated" in run(orders)
    assert "1 repeated" in run(night)
    assert (folder / "tonight.parquet").exists()
    assert "items (+1)" in run(season_)
    with molar.Shop(None, folder / ".molar").recommender() as recommender:
        assert [item.item_id for item in recommender.query("u0001", candidates=["W-1", third]).items] == ["W-1"]
    assert "live: generation" in run(rolled)
    generation = molar.Shop(None, folder / ".molar").generations()
    (name,) = [one.name for one in generation if one.live]
    table = max((folder / ".molar" / "generations" / name).rglob("*"), key=lambda file: file.stat().st_size)
    with table.open("r+b") as file:
        file.write(b"damaged")
    assert "is whole" in run(damaged)
    run(wrong)
    with molar.Shop(None, folder / ".molar").recommender() as recommender:
        found = recommender.query("u0001", candidates=[first, second]).items
        assert {item.item_id for item in found} == {first, second}
    assert "is whole" in run(killed, cold)  # it kills what it began
    assert "is whole" in run(backup)
    there = molar.open(folder / "restored" / "catalog")
    assert len(there.events.table()) == len(molar.open(folder / "shop").events.table())
