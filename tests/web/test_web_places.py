"""Where the server writes, what it says, and over what: read-only media, other users, secrets, TLS."""

import os
import ssl
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from copies import copy_workspace
from typer.testing import CliRunner
from web_server import Program, program, until_ready

from molar_cli.app import app
from molar_serving.auth import Keyring

sys.path.append(str(Path(__file__).parents[1] / "attacks"))
from test_read_only import NOBODY, mounted, skip_without_mounts, state

EVENT = {"event": "view_item", "user_id": "somebody", "item_id": "SKU-0001"}


@pytest.fixture
def workspace(trained, tmp_path):
    return copy_workspace(trained.workspace, tmp_path / "own" / ".molar")


@pytest.fixture
def shared(trained):
    """A workspace that everybody can read, whoever made the folder of the tests."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        workspace = copy_workspace(trained.workspace, Path(place) / ".molar")
        for path in (workspace, *workspace.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        skip_without_mounts(workspace)
        yield workspace


def asked(client, user):
    """A request of every kind, each answered."""
    assert client.post("/v1/recommendations", json={"user_id": user, "explain": True}).json()["known"]
    assert client.post("/v1/search", json={"text": "chair", "user_id": user}).status_code == 200
    assert client.get("/v1/items/SKU-0001/similar").status_code == 200
    assert client.get("/v1/nothing").status_code == 404


def test_nothing_is_written_but_events_and_what_is_under_serving(workspace, trained, tmp_path):
    places = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for place in places.values():
        place.mkdir()
    settings = tmp_path / "molar.toml"
    settings.write_text("[serve]\naccess_log = true\n")

    def outside():
        own = ("own/.molar/events/", "own/.molar/serving/")
        return {name: facts for name, facts in state(tmp_path).items() if not name.startswith(own)}

    before = outside()
    environment = {name: str(place) for name, place in places.items()}
    with program(workspace, "--settings", str(settings), **environment) as server, server.client() as client:
        asked(client, trained.user)
        assert client.post("/v1/events", json=EVENT | {"event_id": "1"}).json()["accepted"] == 1
        assert server.end() == 0
    assert outside() == before
    found = {path.name for path in (workspace / "serving").iterdir()}
    assert found >= {"access.jsonl", "audit.jsonl", "pseudonyms.key"}


def test_another_user_answers_from_a_read_only_workspace(shared, trained):
    """A user without rights answers from read-only media; events are refused with a remedy, and the log says why."""
    with program(shared, by=mounted(shared, shared, [])) as server, server.client() as client:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}" in status
        asked(client, trained.user)
        refused = client.post("/v1/events", json=EVENT | {"event_id": "1"})
        assert (refused.status_code, refused.json()["remedy"] != "") == (503, True)
        assert str(shared) not in refused.text
        asked(client, trained.user)
        server.process.terminate()
        said = server.process.stderr.read()
    assert "read-only file system" in said
    assert "Traceback" not in said


def test_events_are_taken_where_the_event_log_alone_can_be_written(shared):
    """Of a read-only workspace the folder of events is enough to write to: lists change by what people do."""
    events = shared / "events"
    events.mkdir(exist_ok=True)
    for path in (events, *events.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = {name: facts for name, facts in state(shared).items() if not name.startswith("events/")}
    by = mounted(shared, shared, [])
    by[4] = by[4].replace(
        "&& shift &&", f'&& mount --bind "{events}" "{events}" && mount -o remount,bind,rw "{events}" && shift &&'
    )
    with program(shared, by=by) as server, server.client() as client:
        taken = client.post("/v1/events", json=EVENT | {"event_id": "1"})
        assert (taken.status_code, taken.json().get("accepted")) == (200, 1), taken.text
        told = client.post("/v1/recommendations", json={"user_id": "somebody", "wait_for": taken.json()["seq"]}).json()
        assert told["events"] >= taken.json()["seq"]
    assert {name: facts for name, facts in state(shared).items() if not name.startswith("events/")} == before


PLANTED = "kestrel-é-of-a-\\'\"%key"


def test_secrets_are_in_no_byte_of_what_it_says(workspace, trained, tmp_path):
    """Keys, wherever they are sent, and those of the environment are in no answer, no log and no line of the server."""
    key = Keyring(workspace).add("backend", ["answer", "events"])
    secret, wrong = key.split("_", 2)[2], "molar_backend_" + "w" * 43
    settings = tmp_path / "molar.toml"
    settings.write_text("[serve]\naccess_log = true\n")
    said = b""
    with (
        program(workspace, "--settings", str(settings), QDRANT_API_KEY=PLANTED + "\n") as server,
        server.client() as client,
    ):
        for sent in (key, wrong, PLANTED):
            for header in (f"Bearer {sent}", sent, f"Basic {sent}", f"bearer {sent}"):
                headers = {"authorization": header.encode()}
                answers = [
                    client.get("/v1/recommendations", params={"user_id": "u"}, headers=headers),
                    client.post("/v1/events", json=EVENT, headers=headers),
                    client.get("/openapi.json", headers=headers),
                ]
                right = {"authorization": f"Bearer {key}"}
                answers += [
                    client.get(f"/{sent}", headers=right),
                    client.get("/v1/recommendations", params={sent: "u"}, headers=right),
                    client.get("/v1/recommendations", params={"user_id": "u", "k": sent}, headers=right),
                    client.post("/v1/recommendations", json={sent: 1}, headers=right),
                    client.post("/v1/recommendations", json={"user_id": "u", "where": f"{sent} = 3"}, headers=right),
                    client.post(
                        "/v1/recommendations", json={"user_id": "u", "where": f"price < '{sent}'"}, headers=right
                    ),
                    client.post("/v1/recommendations", json={"user_id": "u", "language": sent}, headers=right),
                    client.post("/v1/events", json={"event": sent, "user_id": "u", sent: sent}, headers=right),
                    client.post("/v1/events", content=f"{{{sent}".encode(), headers=right),
                    client.options("/v1/events", headers={"origin": f"https://{sent}".encode()}),
                ]
                said += b"".join(answer.content + str(answer.headers).encode() for answer in answers)
        server.process.terminate()
        said += server.process.stdout.read().encode() + server.process.stderr.read().encode()
    said += b"".join(path.read_bytes() for path in (workspace / "serving").glob("*.jsonl"))
    text = said.decode().replace("\\u00e9", "é")
    assert secret not in text
    assert wrong not in text
    bare = "".join(filter(str.isalnum, text))
    assert "kestrel" not in bare, bare[bare.index("kestrel") - 200 :][:300]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for this machine, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    files = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(folder / "cert.pem"),
    ]
    try:
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl makes no certificate here: {error}")
    return folder


def test_over_tls(workspace, certificate, trained):
    named = {"MOLAR_SERVE_CERTIFICATE": f"{certificate}/cert.pem", "MOLAR_SERVE_PRIVATE_KEY": f"{certificate}/key.pem"}
    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    server = Program(workspace, **named)
    try:
        assert server.address.startswith("https://127.0.0.1:")
        with server.client(verify=trusted) as client:
            until_ready(client)
            asked(client, trained.user)
            headers = client.get("/health/live").headers
            assert "server" not in headers
            assert headers["date"].endswith("GMT")
        with pytest.raises(httpx.ConnectError), server.client() as client:  # nobody vouches for it
            client.get("/health/live")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(server.address.replace("https", "http") + "/health/live")
        old = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError), server.client(verify=old) as client:
            client.get("/health/live")
    finally:
        assert server.end() == 0


@pytest.mark.parametrize("wrong", ["alone", "none", "other", "encrypted"])
def test_a_certificate_that_cannot_be_used_is_named_before_it_listens(
    workspace, certificate, tmp_path, wrong, monkeypatch
):
    cert, key = certificate / "cert.pem", certificate / "key.pem"
    if wrong == "alone":
        key = None
    elif wrong == "none":
        cert = tmp_path / "nothing.pem"
    elif wrong == "other":
        key = cert
    else:
        locked = tmp_path / "locked.pem"
        command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
        subprocess.run(command, check=True, capture_output=True)
        key = locked
    monkeypatch.setenv("MOLAR_SERVE_CERTIFICATE", str(cert))
    if key is not None:
        monkeypatch.setenv("MOLAR_SERVE_PRIVATE_KEY", str(key))
    done = CliRunner().invoke(app, ["serve", "--workspace", str(workspace), "--port", "0"])
    assert done.exit_code == 2, done.output
    assert "named alone" in done.output or "cannot be used" in done.output.replace("\n", " ")
