"""What docs/serving.md and docs/deploy.md tell to do is done, block by block, against one server with a demo shop."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest
from browser import Browser, installed
from copies import copy_workspace
from typer.testing import CliRunner
from web_server import client_of, program

import molar

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text("utf-8")
SERVER, PAGE = "127.0.0.1:8080", "127.0.0.1:8000"
pytestmark = pytest.mark.slow


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """The shop's folder: .molar, the page, and a photo that is sent."""
    root = tmp_path_factory.mktemp("document")
    copy_workspace(trained.workspace, root / ".molar")
    shutil.copytree(trained.shop, root / "shop")
    molar.Shop(trained.shop, root / ".molar").move(catalogue=root / "shop")
    shutil.copy(next((trained.shop / "images").glob("*.jpg")), root / "lamp.jpg")
    return root


@pytest.fixture(scope="module")
def places(folder):
    """Where the server and the page are, as the document calls them."""
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    threading.Thread(target=page.serve_forever, daemon=True).start()
    with program(folder / ".molar") as server:
        yield {SERVER: server.address.removeprefix("http://"), PAGE: f"127.0.0.1:{page.server_port}"}
    page.shutdown()
    page.server_close()


@pytest.fixture(scope="module")
def run(folder, places):
    """Run a block, word for word but for the ports; what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def runs(block, **more):
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NO_PROXY": "*", **more}
        done = subprocess.run(
            ["bash", "-euc", placed(block, places)], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return runs


def placed(text, places):
    for told, real in places.items():
        text = text.replace(told, real)
    return text


def documents(printed):
    """The JSON documents that were printed one behind the other."""
    decoder, found = json.JSONDecoder(), []
    while printed := printed.lstrip():
        one, end = decoder.raw_decode(printed)
        found.append(one)
        printed = printed[end:]
    return found


@pytest.fixture(scope="module")
def keys(run):
    """Everything up to the keys, in the order of the document; the keys."""
    ask, events, keys, curl, night = blocks("sh")
    known, stranger, simple, search = documents(run(ask))
    assert known["known"]
    assert all(item["reasons"] and item["fields"]["price"] < 60 for item in known["items"])
    assert stranger["basis"] == "popularity"
    assert len(simple["items"]) == len(search["items"]) == 5
    taken, told = documents(run(events))
    assert taken["accepted"] == 1
    assert told["known"]
    assert "SKU-0002" not in [item["item_id"] for item in told["items"]]
    for block in blocks("bash"):
        if block.startswith("curl "):
            assert not [one for one in documents(run(block.replace("curl ", "curl -s "))) if "remedy" in one], block
    backend, page, *_ = run(keys).split()
    assert documents(run(curl, MOLAR_KEY=backend))[0]["known"]
    run(night)
    return backend, page


def test_the_backend_of_the_document_gets_lists_and_tells_of_orders(keys, places, monkeypatch, trained):
    monkeypatch.setenv("MOLAR_KEY", keys[0])
    (code,) = blocks("python")
    assert len(code.splitlines()) <= 20
    told = {}
    patient = placed(code, places).replace("wait=100ms", "wait=10").replace("timeout=1.0", "timeout=30")
    exec(patient, told)  # a busy machine may answer with the popular list by then
    first = told["list_for"](trained.user)
    item = first["items"][0]["item_id"]
    for _ in range(2):  # again, as after a failure
        told["ordered"]("order-1", trained.user, [{"item_id": item, "price": 12.5}], first["recommendation_id"])
    assert item not in [one["item_id"] for one in told["list_for"](trained.user, 20)["items"]]
    told["molar"].close()
    told["molar"] = httpx.Client(base_url="http://127.0.0.1:9", timeout=0.2, trust_env=False)
    assert told["list_for"](trained.user)["items"] == []
    told["molar"].close()


@pytest.mark.skipif(installed() is None, reason="no Chromium")
def test_the_page_of_the_document_learns_from_what_its_visitor_buys(keys, places, folder):
    (page,) = blocks("html")
    assert len(page.splitlines()) <= 20
    (folder / "page.html").write_text(placed(page, places).replace("molar_page_...", keys[1]), "utf-8")
    with Browser(800, 600) as browser:
        browser.go(f"http://{places[PAGE]}/page.html")
        browser.wait("document.querySelectorAll('#list li').length === 6")
        first = browser.run("document.querySelector('#list li').textContent")
        browser.run("document.querySelector('#list button').click()")
        browser.wait(f"document.querySelector('#list li').textContent !== {json.dumps(first)}")
        assert [one for one in browser.complaints if "favicon" not in str(one)] == []


def test_a_backup_is_restored_into_a_new_folder_and_leaves_the_shop_above_alone(keys, run, folder):
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (backup,) = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    run(backup)
    kept = run("tar -tf shop.tar.gz")
    assert ".molar/serving/keys.json" in kept
    assert "answers.sqlite" not in kept
    run("molar restore shop.tar.gz again")
    here, there = (json.loads(run(f"molar events tail -n 10000 --json {where}")) for where in ("", "-w again/.molar"))
    assert here == there
    assert here["events"]


def test_programs_that_the_document_names_but_does_not_run_here_are_there():
    from molar_cli.app import app

    lines = [line.partition("#")[0].split() for block in blocks("bash") for line in block.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["molar"]]
    assert ["serve"] in commands
    for words in commands:
        assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words


def test_every_address_of_the_document_is_answered(trained, tmp_path):
    with client_of(copy_workspace(trained.workspace, tmp_path / ".molar")) as client:
        paths = client.get("/openapi.json").json()["paths"]
    known = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) for path in paths]
    named = {path.rstrip(".…") for path in re.findall(r"/v1/[\w/{}…-]+", TEXT)}
    assert len(named) > 5
    assert {path for path in named if not any(re.fullmatch(one, path) for one in known)} == set()
