"""What `molar doctor` sees, and what it keeps to itself."""

import faulthandler
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from copies import copy_workspace
from qdrant_fake import fake_qdrant
from test_indexes_generations import release

from molar.doctor import Entry, Health, HealthState, Section, examine
from molar.doctor.health import hidden
from molar.doctor.machine import machine, usable_cores
from molar.doctor.places import folder_size
from molar.doctor.server import address, served, server
from molar.doctor.software import conflicts, needs, software, torch_build
from molar.doctor.workspace import artefacts, generations, work
from molar_indexes.generations import rollback
from molar_indexes.server.config import ServerConfig, go_together
from molar_indexes.server.push import push
from molar_retrieval.reports.wording import size
from molar_retrieval.workspace import artefacts as inventory
from molar_retrieval.workspace.activity_log import recorded, step
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.discovery import WorkspaceRecord
from molar_retrieval.workspace.settings import IndexSettings

HOME = Path("/home/ada")


def _entries(found):
    return {entry.name: entry for entry in found}


def _install(folder, name, version, *requires):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    return tmp_path / "packages"


def test_bounds_of_a_distribution(packages):
    _install(packages, "made-up", "1.0", "alpha-x>=2", 'beta-x>=1; python_version < "3"', 'gamma-x>=1; extra == "more"')
    assert list(needs("made-up")) == [("alpha-x", ">=2", False)]


def test_missing_and_unfit_libraries_are_broken(packages, monkeypatch):
    _install(packages, "made-up", "1.0", "alpha-x>=2", "absent-x>=3", "good-x<5")
    _install(packages, "alpha-x", "1.9")
    _install(packages, "good-x", "4.2")
    monkeypatch.setattr("molar.doctor.software.DISTRIBUTION", "made-up")
    found = _entries(software(deep=False, versions=True))
    assert (found["alpha-x"].state, found["alpha-x"].remedy) == (HealthState.BROKEN, 'pip install "alpha-x>=2"')
    assert (found["absent-x"].state, found["absent-x"].value) == (HealthState.BROKEN, "missing")
    assert found["good-x"].state is HealthState.FINE
    assert {*_entries(software(deep=False))} & {"alpha-x", "absent-x", "good-x"} == {"alpha-x", "absent-x"}


def test_libraries_that_do_not_go_together(packages):
    _install(packages, "made-up", "1.0", "alpha-x", "beta-x")
    _install(packages, "alpha-x", "1.0", "beta-x<3", "absent-x")
    _install(packages, "beta-x", "3.1", "alpha-x>=1")
    assert list(conflicts("made-up")) == [
        "alpha-x needs beta-x<3, 3.1 is installed",
        "alpha-x needs absent-x, which is not installed",
    ]


def test_a_release_candidate_fulfils_bounds(packages):
    _install(packages, "made-up", "1.0", "alpha-x")
    _install(packages, "alpha-x", "1.0", "beta-x>=2")
    _install(packages, "beta-x", "3.0rc1+local")
    assert list(conflicts("made-up")) == []


def test_this_installation_is_described_without_importing_torch():
    before = "torch" in sys.modules
    found = _entries(software(deep=False, versions=True))
    assert found["torch"].value.endswith(f"({torch_build()})")
    assert found["python"].data["version"] == ".".join(map(str, sys.version_info[:3]))
    assert ("torch" in sys.modules) == before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ada/shop and /home/ada", "~/shop and ~"),
        ("/home/adam/shop", "/home/adam/shop"),
        ("http://ada:secret@host:6333/x?api-key=123", "http://…@host:6333/x?…"),
        ("token hf_abcdefghijklmnop failed", "token … failed"),
        ("the vector of user 'ada@example.org' is damaged", "the vector of user … is damaged"),
        ('the history of user "o\'neil" names an unknown item', "the history of user … names an unknown item"),
    ],
)
def test_nothing_gives_anybody_away(text, shown):
    assert hidden(text, HOME) == shown


def test_every_field_is_discreet():
    entry = Entry(
        "a", "/home/ada/a", HealthState.BROKEN, "/home/ada/b", "/home/ada/c", {"/home/ada/d": ["/home/ada/e", 1]}
    )
    made = Health((Section("s", "S", (entry,)),)).discreet(HOME)
    assert "ada" not in json.dumps(made.to_dict())
    assert "ada" not in str(made)


def test_values_of_the_environment_are_not_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_EMBED_BATCH_SIZE", "pass: word-in-the-wrong-place")
    monkeypatch.setenv("HF_TOKEN", "something-secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    health = examine(tmp_path / ".molar")
    said = json.dumps(health.to_dict()) + str(health)
    assert "wrong-place" not in said
    assert "something-secret" not in said
    assert health.broken
    (entry,) = [entry for _, entry in health.problems() if entry.name == "settings"]
    assert entry.problem.endswith("embed.batch_size")
    assert "HF_TOKEN" in said


def test_limits_of_a_container(tmp_path):
    groups, proc = tmp_path / "groups", tmp_path / "proc"
    groups.mkdir()
    proc.mkdir()
    (groups / "cpu.max").write_text("50000 100000\n")
    (groups / "memory.max").write_text(f"{3 << 30}\n")
    (groups / "memory.current").write_text(f"{2 << 30}\n")
    (proc / "meminfo").write_text("MemTotal: 67108864 kB\nMemAvailable: 33554432 kB\n")
    (proc / "cpuinfo").write_text(
        "model name : Some CPU\nflags : sse2 avx2 avx512f\n\nmodel name : Other\nflags : sse2\n"
    )
    assert usable_cores(proc, groups) == 0.5
    found = _entries(machine(deep=False, proc=proc, groups=groups))
    assert found["processor"].data == {"name": "Some CPU", "features": ["avx2", "avx512f"]}
    assert found["cores"].data["usable"] == 0.5
    assert found["memory"].data == {"bytes": 3 << 30, "free_bytes": 1 << 30}
    assert found["memory"].state is HealthState.WARNING


def test_a_gpu_that_pytorch_was_not_built_for(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 1204, 570.86.15, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("molar.doctor.machine.torch_build", lambda: "CPU")
    card = _entries(machine(deep=False))["gpu 0"]
    assert (card.state, card.data["memory"]) == (HealthState.WARNING, 81559)
    monkeypatch.setattr("molar.doctor.machine.torch_build", lambda: "CUDA 13.0")
    assert _entries(machine(deep=False))["gpu 0"].state is HealthState.FINE


class _Server(BaseHTTPRequestHandler):
    said = b""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering():
    http = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()

    def say(text):
        _Server.said = text.encode()
        return f"http://127.0.0.1:{http.server_port}"

    yield say
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_server_of_the_clients_version(answering, monkeypatch):
    monkeypatch.setattr("molar.doctor.server.metadata.version", lambda name: "1.17.0")
    entry = address(answering('{"title": "qdrant - vector search engine", "version": "1.16.3"}'))
    assert (entry.state, entry.data["version"]) == (HealthState.FINE, "1.16.3")
    entry = address(answering('{"title": "qdrant - vector search engine", "version": "1.12.0"}'))
    assert entry.state is HealthState.BROKEN
    assert "version 1.12.0 does not go together" in entry.problem


@pytest.mark.parametrize("text", ["<html>", "[]", '{"title": "another"}', "{}"])
def test_a_server_that_is_none(answering, text):
    entry = address(answering(text))
    assert entry.state is HealthState.BROKEN
    assert entry.remedy


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "file:///etc/passwd", "localhost:6333", "http://[bad"])
def test_an_address_without_a_server(url):
    assert address(url).state is HealthState.BROKEN


def test_versions_of_client_and_server():
    assert go_together("1.20.0", "1.16.0")
    assert go_together("1.20.0", "1.31.2")
    assert not go_together("1.17.1", "1.15.9")
    assert not go_together("2.0.0", "1.99.0")


def test_without_a_server_none_is_asked(tmp_path):
    assert list(server(tmp_path / ".molar")) == []


def entries(place, root):
    return {entry.name: entry for entry in served(place, root)}


def test_what_is_live_on_a_server_and_how_far_from_here(tmp_path, monkeypatch):
    monkeypatch.setattr("molar_indexes.server.push.POLL", 0.01)
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    release(workspace, 1).close()
    with fake_qdrant() as fake:
        settings = IndexSettings(url=fake.url, users="server", timeout=30)
        place = ServerConfig.of(settings)
        found = entries(place, workspace.root)
        assert "nothing live" in found["collections"].problem
        assert "molar index push" in found["collections"].remedy
        first = push(workspace, settings)
        found = entries(place, workspace.root)
        assert set(found) == {"address", "protocol", "live items", "live users", "drift"}
        assert found["protocol"].value.startswith("REST: by gRPC, which is faster, Qdrant does not answer at port")
        assert {entry.state for entry in found.values()} == {HealthState.FINE}
        assert found["live items"].data["points"] == 60
        assert found["live users"].data["points"] == 40
        second = release(workspace, 2)
        second.close()
        found = entries(place, workspace.root)
        assert found["drift"].state is HealthState.WARNING
        assert found["drift"].data == {"server": first.generation, "workspace": second.name}
        push(workspace, settings)
        assert "2" in entries(place, workspace.root)["older collections"].value
        release(workspace, 3, keep=0).close()
        assert entries(place, workspace.root)["drift"].state is HealthState.BROKEN
        fake.client.delete(push(workspace, settings).collection, [3])
        assert "59 points instead of 60" in entries(place, workspace.root)["live items"].problem
        fake.key = "needed"
        assert "refuses a request without a key" in entries(place, workspace.root)["collections"].problem


@pytest.mark.parametrize("status", ["yellow", "grey", "red"])
def test_a_collection_that_is_not_green(tmp_path, status, monkeypatch):
    (tmp_path / "shop").mkdir()
    workspace = Workspace.for_catalogue(tmp_path / ".molar", tmp_path / "shop")
    release(workspace, 1).close()
    with fake_qdrant() as fake:
        settings = IndexSettings(url=fake.url)
        push(workspace, settings)
        (tmp_path / "molar.toml").write_text("[index]\ntimeout = 30\n", "utf-8")
        monkeypatch.setenv("MOLAR_INDEX_URL", fake.url)
        fake.statuses = [status]
        health = examine(workspace.root)
        (found,) = [entry for section, entry in health.problems() if section.name == "server"]
        assert status in found.problem
        assert found.state is (HealthState.BROKEN if status == "red" else HealthState.WARNING)


def test_a_key_over_an_open_network_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setenv("QDRANT_API_KEY", "k-secret")
    unreachable = Entry("address", "there", HealthState.BROKEN, "nothing answers", "start it")
    monkeypatch.setattr("molar.doctor.server.address", lambda url: unreachable)
    found = entries(ServerConfig("http://db.example:6333", key_over_http=True), tmp_path)
    assert found["key"].state is HealthState.WARNING
    assert "k-secret" not in repr(found)


def test_sizes(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(os.urandom(300_000))
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    total, whole = folder_size(tmp_path, None)
    assert 300_000 <= total < 400_000
    assert whole
    assert folder_size(tmp_path, -1.0) == (0, False)
    assert [size(n) for n in (12, 1_500, 2_340_000, 5e12)] == ["12 bytes", "2 KB", "2.3 MB", "5.0 TB"]


@pytest.fixture
def copied(trained, tmp_path):
    """The trained workspace, to be damaged."""
    copy_workspace(trained.workspace, tmp_path / ".molar")
    shutil.copytree(trained.shop, tmp_path / "shop", copy_function=shutil.copy2)
    WorkspaceRecord.of(tmp_path / ".molar", (tmp_path / "shop").resolve()).write(tmp_path / ".molar")
    return Workspace(tmp_path / ".molar")


def _states(found):
    return {entry.name: entry.state for entry in found if entry.state is not HealthState.FINE}


def test_a_whole_workspace(copied):
    for deep in (False, True):
        assert _states(artefacts(copied.root, deep)) == {}
        assert _states(generations(copied.root, deep)) == {}
    found = _entries(artefacts(copied.root, deep=False))
    assert all(found[kind].data["fresh"] for kind in ("catalogue", "interactions", "content", "als", "alignment"))
    (live,) = generations(copied.root, deep=False)
    assert set(live.data["inputs"]) >= {"catalogue", "content", "alignment"}


def test_a_rollback_is_told_as_such(copied):
    live = copied["generations"].current
    newer = live.with_name("99991231-000000-0badcafe")
    shutil.copytree(live, newer)
    manifest = Manifest.read(newer)
    manifest = replace(manifest, number=manifest.number + 1)
    inventory.amend_inventory(newer, {}, {"manifest.json": manifest.text.encode()})
    manifest.write(newer)
    copied["generations"].switch(newer.name)
    path = copied["catalogue"].current / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "another"}))
    assert _states(generations(copied.root, deep=False)) == {f"{newer.name} (live)": HealthState.WARNING}
    rollback(copied)
    (entry,) = [one for one in generations(copied.root, deep=False) if "(live)" in one.name]
    assert entry.name.startswith(live.name)
    assert "rolled back on purpose on 2" in entry.value
    assert newer.name in entry.value
    assert entry.state is HealthState.FINE
    copied["generations"].switch(newer.name)  # as a publication does
    (entry,) = [one for one in generations(copied.root, deep=False) if "(live)" in one.name]
    assert "rolled back" not in entry.value


def test_work_that_a_signal_ended_is_named_until_it_is_done_again(copied):
    process = os.fork()
    if not process:
        with recorded(copied, "align"):
            step("the towers")
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGSEGV
    for _ in range(2):
        (entry,) = work(copied.root)
        assert entry.state is HealthState.WARNING
        assert "`molar align`" in entry.problem
        assert "in step 'the towers'" in entry.problem
        with recorded(copied, "update"):
            pass
    with recorded(copied, "align"):
        pass
    assert list(work(copied.root)) == []


def test_changed_files_make_artefacts_stale(copied):
    os.utime(copied.catalogue / "items.parquet", ns=(1, 1))
    found = _entries(artefacts(copied.root, deep=False))
    assert "items.parquet changed" in found["catalogue"].problem
    assert found["catalogue"].remedy == "run `molar embed CATALOG`"
    assert found["content"].state is HealthState.FINE


def test_changed_photos_are_seen_by_a_deep_look(copied):
    photo = next((copied.catalogue / "images").iterdir())
    photo.write_bytes(photo.read_bytes() + b" ")
    assert _states(artefacts(copied.root, deep=False)) == {}
    assert _states(artefacts(copied.root, deep=True)) == {"catalogue": HealthState.WARNING}


def test_an_artefact_made_from_another(copied):
    path = copied["content"].current / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["fingerprint"] = "another"
    path.write_text(json.dumps(manifest))
    found = _entries(artefacts(copied.root, deep=False))
    assert found["alignment"].state is HealthState.WARNING
    assert "now it is another" in found["alignment"].problem


def test_factors_are_those_of_the_last_training(copied):
    path = copied["als"].current / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "inputs": {"interactions": "former"}}))
    entry = _entries(artefacts(copied.root, deep=False))["als"]
    assert entry.state is HealthState.FINE
    assert entry.value.startswith("of the last training: ")


def test_a_damaged_manifest_is_broken(copied):
    (copied["content"].current / "manifest.json").write_text("{")
    entry = _entries(artefacts(copied.root, deep=False))["content"]
    assert entry.state is HealthState.BROKEN
    assert "molar embed" in entry.remedy


def test_a_shortened_index_is_broken(copied):
    path = copied["generations"].current / "users.sqlite"
    path.write_bytes(path.read_bytes()[:-1000])
    (entry,) = generations(copied.root, deep=False)
    assert entry.state is HealthState.BROKEN
    assert "users.sqlite has" in entry.problem
    assert "molar align" in entry.remedy


def test_changed_bytes_are_found_by_a_deep_look(copied):
    path = copied["generations"].current / "table.safetensors"
    data = bytearray(path.read_bytes())
    data[-100] ^= 255
    path.write_bytes(bytes(data))
    assert _states(generations(copied.root, deep=False)) == {}
    (entry,) = generations(copied.root, deep=True)
    assert entry.state is HealthState.BROKEN
    assert "table.safetensors was changed" in entry.problem


def test_no_live_generation_is_broken(copied):
    (copied["generations"].root / "current").write_text("gone\n")
    found = _entries(generations(copied.root, deep=False))
    assert found["live"].state is HealthState.BROKEN


def test_unfinished_work_and_a_moved_catalogue(copied):
    (copied["content"].partial("abc") / "vectors").write_bytes(b"x" * 100_000)
    shutil.rmtree(copied.catalogue)
    section = list(artefacts(copied.root, deep=True))
    assert _entries(section)["content, unfinished"].data["folder"] == "abc.partial"
    assert _states(section) == {"folder": HealthState.WARNING}


def test_a_damaged_workspace_file(copied):
    (copied.root / "workspace.json").write_text("nothing")
    broken = [entry for _, entry in examine(copied.root).problems() if entry.state is HealthState.BROKEN]
    assert [entry.problem for entry in broken] == ["workspace.json is damaged"]
