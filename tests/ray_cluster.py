"""A Ray cluster for tests: machines of it that this one plays, started by `ray start` with a token.

Every machine has a record of its own in a folder; its processes are known by a mark in their environment::

    FOLDER/token        proves that one may use the cluster
    FOLDER/NAME.json    mark, role and addresses of a machine
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from molar_retrieval.workspace.ray_jobs import PORT, ClusterAccess, ClusterAddress

GCS_PORT = 6379
_MARK = "RAY_OF_MOLAR"
_STARTS, _ENDS = 90.0, 15.0  # seconds that the processes of a machine have to answer, or to end when they are asked to
_STORE = 100 << 20  # bytes of Ray's store of objects: nothing goes through it
_PROC = Path("/proc")


@dataclass(frozen=True)
class Member:
    """A machine of a cluster: its name, whether it is the head, addresses, mark, and the folder that it writes to."""

    name: str
    head: bool
    url: str
    gcs: str
    mark: str
    scratch: str

    @property
    def processes(self) -> list[int]:
        """Ids of its processes on this machine."""
        wanted = f"{_MARK}={self.mark}".encode()
        return [pid for pid in _own_processes() if wanted in _environment(pid)]


def members(folder: Path) -> list[Member]:
    """The machines on record, the head first."""
    found = [Member(**json.loads(path.read_text("utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda one: (not one.head, one.name))


def address_of(folder: Path) -> ClusterAddress:
    """Where the cluster is, with its token."""
    return ClusterAddress(members(folder)[0].url, folder / "token")


def up(folder: Path, name: str, *, join: bool = False, cpus: int) -> None:
    """Start a machine, the head or one that joins it; one of the same name that is left is ended before."""
    folder.mkdir(parents=True, exist_ok=True)
    down(folder, name)
    token, scratch = folder / "token", tempfile.mkdtemp(prefix="molar-ray-")
    if not token.exists():
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
    one = Member(name, not join, f"ray://127.0.0.1:{PORT}", f"127.0.0.1:{GCS_PORT}", uuid4().hex, scratch)
    (folder / f"{name}.json").write_text(json.dumps(asdict(one)))
    _start(one, token, ["--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"])


def down(folder: Path, name: str) -> None:
    """End a machine, where it is there."""
    for one in members(folder):
        if one.name == name:
            _end(one)
            (folder / f"{name}.json").unlink()


def _start(member: Member, token: Path, options: list[str]) -> None:
    """Start Ray's processes beneath one that ends them where it ends, and wait until they answer."""
    if member.head:
        gcs, client = member.gcs.rpartition(":")[2], member.url.rpartition(":")[2]
        role = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
        role += [f"--temp-dir={member.scratch}", "--disable-usage-stats"]
    else:
        role = [f"--address={member.gcs}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *options]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {**ClusterAddress(member.url, token).environment(), _MARK: member.mark}
    environment |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    log = Path(member.scratch, "start.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, f"--object-store-memory={_STORE}", "--block"],
            env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + _STARTS
    while time.monotonic() < deadline and process.poll() is None:
        if b"Ray runtime started" in log.read_bytes() and _stands(member):
            return
        time.sleep(0.2)
    said = log.read_text("utf-8", "replace")
    _end(member)
    raise RuntimeError(f"Ray does not start: {said}")


def _stands(member: Member) -> bool:
    """Whether the head answers, and asks for the token."""
    return ClusterAddress(member.url).access(timeout=1.0) is ClusterAccess.REFUSED


def _end(member: Member) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _ENDS
        for pid in member.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while member.processes and time.monotonic() < deadline:
            time.sleep(0.1)
    shutil.rmtree(member.scratch, ignore_errors=True)


def _own_processes() -> list[int]:
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
