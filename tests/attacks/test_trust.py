"""Trust: files cannot choose hosts, secrets or folders.

Settings and records that travel with data name servers, files of secrets, folders and programs. Servers on the loopback
and canary files tell whether anything followed them.
"""

import base64
import json
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from qdrant_fake import FakeQdrant, Fault, fake_qdrant
from typer.testing import CliRunner

import molar
from molar_cli.app import app
from molar_indexes.server.config import KEY
from molar_retrieval.errors import DataError, SettingsError

SECRET = "canary-of-a-secret"
_NAMES = ("MOLAR_INDEX_URL", "MOLAR_CLUSTER_ADDRESS", "MOLAR_CLUSTER_TOKEN_FILE", "QDRANT_URL", "RAY_AUTH_TOKEN", KEY)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is named by the environment, and nobody has a token of Ray's."""
    for name in _NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def run(*arguments: object) -> tuple[int, str]:
    """Exit code, and all that is printed, in one line."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join((done.stdout + done.stderr + repr(done.exception)).split())


class _Runs:
    """A pickle that writes a canary where it is opened."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._canary,)


@dataclass
class Head:
    """What answers as the head of a Ray cluster, with a pickle that Ray opens as an error."""

    port: int
    canary: Path
    metadata: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ray://127.0.0.1:{self.port}"


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """It turns away who has no token at first, then aborts with the pickle."""
    packed = base64.standard_b64encode(pickle.dumps(_Runs(tmp_path / "canary"))).decode()
    found = Head(0, tmp_path / "canary")

    def answered(_: bytes, context: Any) -> bytes:
        found.metadata.append(dict(context.invocation_metadata()))
        if len(found.metadata) == 1:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is due")
        context.abort(grpc.StatusCode.ABORTED, packed)
        return b""

    def streamed(_: Any, context: Any) -> Iterator[bytes]:
        answered(b"", context)
        yield b""

    class Every(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method.endswith(("Datapath", "Logstream")):
                return grpc.stream_stream_rpc_method_handler(streamed)
            return grpc.unary_unary_rpc_method_handler(answered)

    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Every()])
    found.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found
    server.stop(None)


@pytest.fixture
def fake() -> Iterator[FakeQdrant]:
    with fake_qdrant() as server:
        yield server


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A catalogue of 5,200 items, which a cluster would embed."""
    folder = tmp_path / "large"
    folder.mkdir()
    rows = "".join(f"{n},item {n}\n" for n in range(5_200))
    (folder / "items.csv").write_text(f"item_id,title\n{rows}", "utf-8")
    return folder


def refused(said: tuple[int, str], key: str, variable: str) -> None:
    """It ended with an error that names the key and what to do."""
    code, words = said
    assert code == SettingsError.exit_code, words
    assert key in words
    assert variable in words
    assert "config.toml" in words.replace(" ", "")


@pytest.mark.parametrize("by", ["beside the workspace", "--settings"])
def test_settings_choose_no_cluster(shop: Any, large: Path, head: Head, by: str) -> None:
    """A cluster named by `molar.toml` or a `--settings` file is never contacted; the command is refused."""
    name = "molar.toml" if by != "--settings" else "other.toml"
    for folder in (shop.workspace.parent, large.parent):
        (folder / name).write_text(f'[cluster]\naddress = "{head.url}"\n', "utf-8")
    files = ["--settings", large.parent / name] if by == "--settings" else []
    commands = ["cluster", "status", "-w", shop.workspace], ["embed", large, "-w", large.parent / ".molar"]
    said = [run(*command, *files) for command in commands]
    run("doctor", "-w", shop.workspace, *files)
    assert not head.canary.exists()
    assert head.metadata == []
    for one in said:
        refused(one, "cluster.address", "MOLAR_CLUSTER_ADDRESS")


def test_records_of_machines_choose_no_cluster_and_no_folder(shop: Any, head: Head, tmp_path: Path) -> None:
    """Records of cluster machines in a workspace are ignored: nothing is requested, sent or removed."""
    folder, scratch, secret = shop.workspace / "cluster", tmp_path / "scratch", tmp_path / "secret"
    folder.mkdir()
    scratch.mkdir()
    secret.write_text(SECRET)
    (folder / "token").symlink_to(secret)
    first = {"head": True, "url": head.url, "gcs": "127.0.0.1:1", "mark": "m", "of": "m", "scratch": str(scratch)}
    for name in (os.uname().nodename, "second"):
        record = first | {"name": name, "head": name != "second"}
        (folder / f"{name}.json").write_text(json.dumps(record), "utf-8")
    for command in (
        ["cluster", "status"],
        ["doctor"],
        ["embed", "--cluster", "cluster", shop.shop],
        ["cluster", "down"],
    ):
        run(*command, "-w", shop.workspace)
    assert head.metadata == []
    assert not head.canary.exists()
    assert scratch.is_dir()


def test_settings_choose_no_file_that_is_sent(shop: Any, head: Head, tmp_path: Path, monkeypatch: Any) -> None:
    """A token file named by `molar.toml` is never sent, not even to a cluster that the user has named."""
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", head.url)
    (shop.workspace.parent / "molar.toml").write_text(f'[cluster]\ntoken_file = "{tmp_path}/secret"\n', "utf-8")
    run("doctor", "-w", shop.workspace)
    refused(run("cluster", "status", "-w", shop.workspace), "cluster.token_file", "MOLAR_CLUSTER_TOKEN_FILE")
    assert not any(SECRET in repr(one) for one in head.metadata)


def test_the_token_of_one_cluster_is_not_for_another(shop: Any, head: Head, tmp_path: Path, monkeypatch: Any) -> None:
    """The token of the configured cluster is not sent to another cluster named by `--cluster`."""
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("MOLAR_CLUSTER_ADDRESS", "ray://127.0.0.1:1")
    monkeypatch.setenv("MOLAR_CLUSTER_TOKEN_FILE", str(tmp_path / "secret"))
    monkeypatch.setattr(
        "molar_retrieval.workspace.jobs.IsolatedContext", lambda *_: pytest.fail("it was asked for more")
    )
    head.metadata.append({})  # it turns nobody away
    with pytest.raises(BaseException, match="asked for more"):
        CliRunner().invoke(
            app, ["cluster", "status", "-w", str(shop.workspace), "--cluster", head.url], catch_exceptions=False
        )
    assert len(head.metadata) > 1
    assert not any(SECRET in repr(one) for one in head.metadata)


COMMANDS = (["query", "--user", "nobody"], ["index", "push"], ["index", "list"], ["recommend", "--out", "lists.csv"])


def test_settings_choose_no_server(shop: Any, fake: FakeQdrant, monkeypatch: Any) -> None:
    """A Qdrant server named by `molar.toml` gets neither the key nor a request; each command is refused."""
    monkeypatch.setenv(KEY, SECRET)
    for line in (f'url = "{fake.url}"', "grpc_port = 1"):
        (shop.workspace.parent / "molar.toml").write_text(f"[index]\n{line}\n", "utf-8")
        key = line.partition(" ")[0]
        for command in COMMANDS:
            refused(run(*command, "-w", shop.workspace), f"index.{key}", f"MOLAR_INDEX_{key.upper()}")
    code, said = run("doctor", "-w", shop.workspace)
    assert code == 1
    assert "MOLAR_INDEX_GRPC_PORT" in said
    assert not fake.asked


def test_records_choose_no_server(shop: Any, fake: FakeQdrant, monkeypatch: Any) -> None:
    """A server named by the record of a push or by an index manifest is never contacted."""
    monkeypatch.setenv(KEY, SECRET)
    live = shop.workspace / "generations" / (shop.workspace / "generations" / "current").read_text().strip()
    (shop.workspace / "push").mkdir(exist_ok=True)
    record = {"url": fake.url, "generation": live.name, "collection": "molar"}
    (shop.workspace / "push" / "molar.json").write_text(json.dumps(record), "utf-8")
    manifest = json.loads((live / "manifest.json").read_text("utf-8"))
    manifest["settings"]["index"] = {**manifest["settings"].get("index", {}), "url": fake.url, "grpc_port": None}
    manifest["facts"] |= {"url": fake.url, "server": record}
    (live / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    for command in (["query", "--user", shop.user], ["doctor"], ["index", "list"]):
        run(*command, "-w", shop.workspace)
    assert not fake.asked


def test_a_key_is_bound_to_its_host(shop: Any, fake: FakeQdrant, monkeypatch: Any) -> None:
    """A key is sent only to its own host, and never unencrypted over a network unless the user allows it."""
    monkeypatch.setenv(KEY, SECRET)
    monkeypatch.setenv("QDRANT_URL", "http://localhost:6333")
    run("index", "push", "--to", fake.url, "-w", shop.workspace)
    assert fake.asked
    assert {one.key for one in fake.asked} == {None}
    monkeypatch.setenv("QDRANT_URL", f"http://localhost:6333,{fake.url}")
    code, said = run("index", "push", "--to", fake.url, "-w", shop.workspace)
    assert code == 0, said
    assert SECRET in {one.key for one in fake.asked}
    monkeypatch.delenv("QDRANT_URL")
    for command in (["index", "push", "--to"], ["query", "--user", "nobody", "--index"]):
        code, said = run(*command, "http://db.invalid:6333", "-w", shop.workspace)
        assert code == SettingsError.exit_code, said
        assert "MOLAR_INDEX_KEY_OVER_HTTP" in said
    (shop.workspace.parent / "molar.toml").write_text("[index]\nkey_over_http = true\n", "utf-8")
    said = run("query", "--user", "nobody", "--index", "http://db.invalid:6333", "-w", shop.workspace)
    refused(said, "index.key_over_http", "MOLAR_INDEX_KEY_OVER_HTTP")


def test_a_key_does_not_follow_a_redirect(shop: Any, fake: FakeQdrant, monkeypatch: Any) -> None:
    """A redirect to another host does not receive the key."""
    monkeypatch.setenv(KEY, SECRET)
    with fake_qdrant() as other:
        fake.faults = [Fault(".", times=1000, status=307, headers={"Location": other.url})]
        run("query", "--user", "nobody", "--index", fake.url, "-w", shop.workspace)
        run("doctor", "--index", fake.url, "-w", shop.workspace)
        assert fake.asked
        assert not any(one.key for one in other.asked)


def test_a_record_of_a_rotation_removes_nothing_elsewhere(shop: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The record of an interrupted key rotation cannot replace or remove files outside the workspace."""
    monkeypatch.setenv("MOLAR_PRIVACY_KEY_FILE", str(tmp_path / "keys" / "own"))
    monkeypatch.setenv("MOLAR_PRIVACY_IDS", "pseudonymous")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    rotation = shop.workspace / "rotation"
    rotation.mkdir()
    (rotation / "planted").write_text("planted")
    for files in (
        {"goes": [str(precious)]},
        {"goes": [os.path.relpath(precious, shop.workspace)]},
        {"instead": {str(precious / "file"): "planted"}},
    ):
        told = {"keys": [], "key_file": str(tmp_path / "keys" / "own"), "files": files}
        (rotation / "switching.json").write_text(json.dumps(told), "utf-8")
        (tmp_path / "keys").mkdir(exist_ok=True)
        (tmp_path / "keys" / "own").write_text("")
        (tmp_path / "keys" / "own").chmod(0o600)
        (precious / "file").chmod(0o600)
        with pytest.raises(DataError, match="outside of"):
            molar.Shop(None, shop.workspace).privacy.rotate()
        assert (precious / "file").read_text() == "precious"


def test_a_list_that_is_elsewhere_is_not_removed(shop: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A suppression list path named by a workspace is neither read, written nor removed."""
    lists = {"format": 1, "salt": "00" * 32, "people": []}
    for name in ("of another shop.json", "own.json"):
        (tmp_path / name).write_text(json.dumps(lists), "utf-8")
    other = tmp_path / "of another shop.json"
    (shop.workspace / "suppressed.json").write_text(json.dumps({"file": str(other)}), "utf-8")
    code, said = run("privacy", "object", "-", "-w", shop.workspace, "--later")
    assert code != 0
    monkeypatch.setenv("MOLAR_PRIVACY_SUPPRESSED_FILE", str(tmp_path / "own.json"))
    run("query", "--user", shop.user, "-w", shop.workspace)
    done = CliRunner().invoke(app, ["update", "-w", str(shop.workspace)])
    assert json.loads(other.read_text("utf-8")) == lists, done.output
    assert said


def test_a_workspace_brings_no_program(shop: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Programs in a workspace are never run; environments of other recommenders lie in the user's cache."""
    from molar_eval.models.peers.environments import RECTOOLS

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    canary, folder = tmp_path / "canary", shop.workspace / "evaluation" / "peers" / "rectools"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f"#!/bin/sh\ntouch {canary}\n")
    (folder / "bin" / "python").chmod(0o755)
    (folder / ".ready").write_text("\n".join(RECTOOLS.requirements))
    run("evaluate", "--model", "RecTools SASRec", "--out", tmp_path / "report", "-w", shop.workspace)
    assert not canary.exists()


def test_a_suite_chooses_no_server(shop: Any, fake: FakeQdrant, tmp_path: Path, monkeypatch: Any) -> None:
    """An evaluation suite cannot change a setting that names a host, a file or a secret."""
    monkeypatch.setenv(KEY, SECRET)
    suite = tmp_path / "suite.toml"
    suite.write_text(
        'description = "planted"\nmodels = ["popularity"]\n[[splits]]\nsplit = "temporal"\n'
        f'[fast.index]\nurl = "{fake.url}"\n'
    )
    said = run("evaluate", "--suite", suite, "--out", tmp_path / "report", "-w", shop.workspace)
    refused(said, "index.url", "MOLAR_INDEX_URL")
    assert not fake.asked


def test_the_user_configuration_is_of_the_user_alone(
    shop: Any, fake: FakeQdrant, user_configuration: Callable[[str], Path]
) -> None:
    """A user configuration that other users can write is refused; the user's own one is used."""
    file = user_configuration(f'[index]\nurl = "{fake.url}"\n')
    file.chmod(0o620)
    code, said = run("query", "--user", shop.user, "-w", shop.workspace)
    assert code == SettingsError.exit_code
    assert "chmod go-w" in said
    assert not fake.asked
    file.chmod(0o600)
    run("query", "--user", shop.user, "-w", shop.workspace)
    assert fake.asked
