"""The files of docs/deploy.md against the code: commands, settings, ports, paths, times."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from configparser import ConfigParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from copies import copy_workspace
from typer.testing import CliRunner
from web_server import client_of

from molar_retrieval.workspace.settings import MolarSettings, ServeSettings
from molar_serving.app import ENDPOINTS
from molar_serving.auth import Keyring

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
SETTINGS = ServeSettings()
WITHOUT_KEY = {one.path for one in ENDPOINTS if one.scope is None}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
PVC, POD, SERVICE = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text("utf-8")).splitlines()
GRACE = SETTINGS.shutdown_timeout + 10  # seconds: files are closed as well


def instructions(name):
    """What the last image of the Dockerfile says with an instruction, or both, for what they do."""
    return [line.partition(" ")[2] for line in DOCKERFILE if line.startswith(f"{name} ")]


def environment():
    return dict(word.split("=", 1) for line in instructions("ENV") for word in shlex.split(line))


def seconds(text):
    return float(text.rstrip("s"))


def understands(words):
    """Whether there is such a command, with such options."""
    from molar_cli.app import app

    return CliRunner().invoke(app, [*words, "--help"]).exit_code == 0


def checked(variables, folder):
    """The settings that environment variables make; a SettingsError where one is unknown."""
    return MolarSettings.load(folder, environ=variables)


def unit(path):
    parser = ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read(path, "utf-8")
    return parser


def test_the_image_serves_as_nobody_special_where_its_health_is_asked(tmp_path):
    assert instructions("ENTRYPOINT") + instructions("CMD") == ['["molar"]', '["serve"]']
    assert instructions("USER") == ["10001:10001"]
    assert instructions("VOLUME") == instructions("WORKDIR")[-1:] == ["/data"]
    variables = environment()
    assert Path(variables["MOLAR_WORKSPACE"]).parent == Path("/data")
    made = checked({name: value for name, value in variables.items() if name.startswith("MOLAR_")}, tmp_path)
    assert (made.serve.host, f"{made.serve.port}") == ("0.0.0.0", instructions("EXPOSE")[0])


def test_the_image_is_built_from_one_base_and_from_files_whose_hashes_are_known():
    (base,) = {line.partition(" ")[0] for line in instructions("FROM")}
    assert re.fullmatch(r"python:3\.11[.\d]*-slim@sha256:[0-9a-f]{64}", base)
    installs = [words for line in instructions("RUN") for words in re.findall(r"/pip install ([^&)]*)", line)]
    assert len(installs) == 5
    for words in installs:
        assert "--no-deps" in words
        assert "--require-hashes" in words or "--no-index" in words
    files = re.findall(r"-r (\S+)", "\n".join(installs))
    assert {Path(file).stem for file in files} == {"build", "torch", "runtime", "cuda"}
    assert all((ROOT / file).exists() for file in files)


def test_what_is_built_from_is_not_left_out():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {name.partition("/")[0] for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "requirements"}
    assert set(kept) == packages | files


class _Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(("status", "wanted"), [(200, 0), (503, 1)])
def test_the_health_check_of_the_image_tells_ready_from_not(status, wanted, monkeypatch):
    monkeypatch.setattr(_Health, "status", status)
    server = HTTPServer(("127.0.0.1", 0), _Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (line,) = instructions("HEALTHCHECK")
    words = yaml.safe_load(line.partition("CMD ")[2])
    code = words[-1].replace(":8080", f":{server.server_port}")
    done = subprocess.run(
        [sys.executable, *words[1:-1], code], capture_output=True, env=os.environ | {"http_proxy": "x"}
    )
    server.shutdown()
    server.server_close()
    assert done.returncode == wanted, done.stderr
    assert set(re.findall(r"/health/\w+", line)) <= WITHOUT_KEY


def test_the_services_of_compose(tmp_path):
    ours = {name: one for name, one in COMPOSE["services"].items() if one.get("image") == "molar"}
    for service in ours.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]
        assert service["volumes"][0].endswith(":/data")
        named = {name: value for name, value in service["environment"].items() if name.startswith("MOLAR_")}
        made = checked(named, tmp_path)
        assert made.index.fallback == "local"
        host = made.index.url.removeprefix("http://").partition(":")[0]
        assert service["depends_on"] == {host: {"condition": "service_healthy"}}
    assert ours["molar"]["ports"] == [f"127.0.0.1:{SETTINGS.port}:{SETTINGS.port}"]
    assert seconds(ours["molar"]["stop_grace_period"]) >= GRACE
    assert understands([ours["job"]["command"]])
    text = (ROOT / "docs" / "server.md").read_text("utf-8")
    alone = yaml.safe_load(re.search(r"^```yaml\n(# compose.*?)^```", text, re.DOTALL | re.M)[1])["services"]["qdrant"]
    del alone["ports"]  # it is asked inside
    assert COMPOSE["services"]["qdrant"] == alone


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_run_commands_that_there_are_and_write_little(path):
    service = unit(path)["Service"]
    commands = re.findall(r"^ExecStart=/opt/molar/bin/molar (.*)$", path.read_text("utf-8"), re.MULTILINE)
    assert commands
    assert all(understands(command.split()) for command in commands)
    folder = service["WorkingDirectory"]
    assert service["Environment"] == f"MOLAR_WORKSPACE={folder}/.molar HOME=/tmp"
    assert service["ReadWritePaths"] == (folder if path.stem == "molar" else f"{folder}/.molar")
    assert service["PrivateTmp"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    if path.stem == "molar":
        assert seconds(service["TimeoutStopSec"]) >= GRACE
        assert service["KillMode"] == "mixed"


def test_the_server_may_write_what_it_writes(trained, tmp_path):
    """What a server writes as rules and photos are sent, against the folders that the files of docs/deploy.md let."""
    shop = copied_shop(trained, tmp_path / "srv")
    before = stamps(shop)
    with client_of(shop / ".molar") as client:
        ring = Keyring(shop / ".molar")
        sent = {"authorization": f"Bearer {ring.add('backend', ['catalogue', 'rules', 'events'])}"}
        photo = next(iter((shop / "catalogue" / "images").iterdir()))
        assert client.put("/v1/rules", json={"toml": "# none\n"}, headers=sent).status_code == 200
        kept = client.put(f"/v1/photos/{photo.stem}", content=photo.read_bytes(), headers=sent)
        assert kept.status_code == 200, kept.text
    after = stamps(shop)
    written = {path for path in before | after if before.get(path) != after.get(path)}
    assert {Path("rules.toml"), Path("catalogue/images")} <= written  # a folder changes with the names in it
    assert any(path.parts[:2] == (".molar", "serving") for path in written)
    service = unit(DEPLOY / "molar.service")["Service"]
    at = Path(service["WorkingDirectory"])
    allowed = [Path(one.lstrip("-")) for one in service["ReadWritePaths"].split()]
    barred = [Path(one.lstrip("-")) for one in service.get("ReadOnlyPaths", "").split()]
    for path in written:
        place = at / path
        assert any(place.is_relative_to(one) for one in allowed), path
        assert not any(place.is_relative_to(one) for one in barred), path
    assert at / "molar.toml" in barred
    folder = Path(environment()["MOLAR_WORKSPACE"]).parent  # in a container, all of it may be written
    (mount,) = [
        one for one in POD["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] if one["mountPath"] == "/data"
    ]
    assert COMPOSE["services"]["molar"]["volumes"][0].endswith(f"}}:{folder}")
    assert [str(folder), False] == [mount["mountPath"], mount.get("readOnly", False)]


def copied_shop(trained, folder):
    """A shop as docs/deploy.md has it: all in one folder."""
    shutil.copytree(trained.shop, folder / "catalogue")
    workspace = copy_workspace(trained.workspace, folder / ".molar")
    record = json.loads((workspace / "workspace.json").read_text("utf-8"))
    told = record | {"catalogue": str((folder / "catalogue").resolve()), "beside": "../catalogue"}
    (workspace / "workspace.json").write_text(json.dumps(told), "utf-8")
    return folder


def stamps(folder):
    """What changes with each file and folder below one, and with the folder itself where a name comes or goes."""
    found = [folder, *folder.rglob("*")]
    return {path.relative_to(folder): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_the_timer_starts_what_is_there():
    (timer,) = DEPLOY.glob("*.timer")
    assert (DEPLOY / f"{timer.stem}.service").exists()
    assert unit(timer)["Timer"]["Persistent"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_understands_the_units(tmp_path):
    there = {"/opt/molar/bin/molar": shutil.which("true"), "User=molar": "User=daemon", "Group=molar": "Group=daemon"}
    for path in DEPLOY.glob("molar*"):
        text = path.read_text("utf-8")
        for name, other in there.items():
            text = text.replace(name, other)
        (tmp_path / path.name).write_text(text, "utf-8")
    units = sorted(tmp_path.glob("molar*"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "molar" in line]) == (0, [])
    help_ = subprocess.run(["systemd-analyze", "--help"], capture_output=True, text=True).stdout
    if "--offline" in help_:  # since systemd 250
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", tmp_path / "molar.service"]
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_pod_asks_health_without_a_key_and_ends_in_order():
    spec = POD["spec"]["template"]["spec"]
    assert POD["spec"]["replicas"] == 1  # one writer of the event log
    assert POD["spec"]["strategy"] == {"type": "Recreate"}
    assert PVC["spec"]["accessModes"] == ["ReadWriteOncePod"]
    serve, update = spec["containers"]
    assert understands(serve["args"])
    assert "molar update --quiet" in update["args"][0]
    assert understands(["update", "--quiet"])
    (port,) = serve["ports"]
    assert port["containerPort"] == SERVICE["spec"]["ports"][0]["port"] == SETTINGS.port
    probes = [serve[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/health/ready", "/health/ready", "/health/live"]
    assert {probe["path"] for probe in probes} <= WITHOUT_KEY
    assert {probe["port"] for probe in probes} == {port["name"]}
    waits = float(serve["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= waits + GRACE
    for container in (serve, update):
        assert container["image"] == serve["image"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {one["mountPath"] for one in container["volumeMounts"]} == {"/data", "/tmp"}
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == instructions("USER")[0]


def test_the_loop_of_updates_ends_when_it_is_told(tmp_path):
    _, update = POD["spec"]["template"]["spec"]["containers"]
    loop = subprocess.Popen([*update["command"], update["args"][0]], cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        loop.wait(0.3)
    loop.terminate()
    assert loop.wait(5) == 0


def test_the_page_names_these_files_and_commands_that_there_are():
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    for path in (
        "../deploy/molar.service",
        "../deploy/molar-update.timer",
        "../compose.yaml",
        "../deploy/kubernetes.yaml",
    ):
        assert f"]({path})" in text
    lines = re.findall(r"(?:molar |run --rm job |-- molar |bin/molar )((?:keys|index|update|events)\b[^#\n`\\]*)", text)
    assert len(lines) >= 6
    for line in lines:
        assert understands(line.split()), line
