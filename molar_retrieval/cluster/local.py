"""`molar cluster up` and `down`: what this machine gives to the cluster of a workspace.

The first machine is the head, others join it by the workspace, which all of them see. Every machine has a record of its
own in the workspace; the token of all lies beside them, for nobody but its owner to read. Processes are known by a mark
in their environment, which is on record before the first of them begins: a command that was killed leaves nothing
behind that the next one does not find, and nothing else is ever ended::

    .molar/cluster/token        proves that one may use the cluster
    .molar/cluster/NAME.json    mark, role and addresses of a machine
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from molar_retrieval.cluster.address import PORT, ClusterAddress, Doorkeeper, require_ray, with_token
from molar_retrieval.durable import OWNER, write_atomically
from molar_retrieval.errors import BackendError, MissingArtefactError, SettingsError
from molar_retrieval.locks import lock_beside

FOLDER, TOKEN = "cluster", "token"
GCS_PORT = 6379
_MARK = "RAY_OF_MOLAR"
_STARTS, _ENDS = 90.0, 15.0  # seconds that the processes of a machine have to answer, or to end when they are asked to
_STORE = 100 << 20  # bytes of Ray's store of objects: nothing goes through it
_PROC = Path("/proc")


@dataclass(frozen=True)
class Member:
    """A machine of a workspace's cluster, as it is on record.

    Attributes:
        name: Of the machine.
        head: Whether it is the one that the others, and programs, speak to.
        url: Where programs reach the cluster.
        gcs: Where further machines reach its head: host and port.
        mark: In the environment of its processes.
        of: The mark of the head, so that a machine that has joined a former one is known.
        scratch: Folder with what these write.
    """

    name: str
    head: bool
    url: str
    gcs: str
    mark: str
    of: str
    scratch: str

    @property
    def processes(self) -> list[int]:
        """Ids of its processes on this machine."""
        wanted = f"{_MARK}={self.mark}".encode()
        return [pid for pid in _own_processes() if wanted in _environment(pid)]


def members(workspace: Path) -> list[Member]:
    """The machines on record, the head first."""
    found = [_read(path) for path in (workspace / FOLDER).glob("*.json")]
    return sorted((one for one in found if one is not None), key=lambda one: (not one.head, one.name))


def address_of(workspace: Path) -> ClusterAddress | None:
    """The cluster of a workspace; None where there is none."""
    head = next((one for one in members(workspace) if one.head), None)
    return None if head is None else ClusterAddress(head.url, workspace / FOLDER / TOKEN)


def up(
    workspace: Path,
    *,
    join: bool = False,
    host: str | None = None,
    port: int = PORT,
    gcs_port: int = GCS_PORT,
    cpus: int | None = None,
    name: str | None = None,
) -> tuple[Member, bool]:
    """Give this machine to the cluster of a workspace; returns its record, and whether it began just now.

    Args:
        workspace: On storage that all machines see.
        join: Whether it joins the machine that is the head; else it becomes that.
        host: Its address for others; None: that of the network by which it reaches them.
        port: Where programs reach the cluster.
        gcs_port: Where further machines reach its head.
        cpus: How many of its CPUs; None: all.
        name: In the record; None: the machine's.

    Raises:
        MissingArtefactError: If there is no head to join.
        BackendError: If Ray is not installed.
        SettingsError: If the system is not Linux, or another machine is the head.
        BackendError: If Ray does not start.
    """
    require_ray()
    if not _PROC.is_dir():
        raise SettingsError(
            "molar cluster up needs Linux", "start Ray by its own commands, and name it: --on ray://HOST:10001"
        )
    name = name or socket.gethostname()
    folder = workspace / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = folder / f"{name}.json"
    with lock_beside(record):
        known = _read(record)
        head = next((one for one in members(workspace) if one.head), None)
        if known is not None and head is not None and known.of == head.mark and known.processes and _stands(known):
            if known.head is join:
                raise _wrong_role(known, join)
            return known, False
        if known is not None:
            _end(known, record)
        head = None if head == known else head
        if (head is not None) is not join:
            raise _wrong_role(head, join)
        token, scratch = _token(folder), tempfile.mkdtemp(prefix="molar-ray-")
        address = host or _own_address(head.gcs if head else None)
        url, gcs = (head.url, head.gcs) if head else (f"ray://{address}:{port}", f"{address}:{gcs_port}")
        mark = uuid4().hex
        found = Member(name, not join, url, gcs, mark, head.mark if head else mark, scratch)
        write_atomically(record, json.dumps(asdict(found)), mode=OWNER)
        _start(
            found, record, token, [f"--node-ip-address={address}", *([] if cpus is None else [f"--num-cpus={cpus}"])]
        )
        return found, True


def down(workspace: Path, name: str | None = None) -> Member | None:
    """End this machine's part of a workspace's cluster; returns its record, or None where it had no part."""
    record = workspace / FOLDER / f"{name or socket.gethostname()}.json"
    if not record.exists():
        return None
    with lock_beside(record):
        known = _read(record)
        if known is not None:
            _end(known, record)
        return known


def _wrong_role(head: Member | None, join: bool) -> SettingsError | MissingArtefactError:
    if head is None:
        return MissingArtefactError(
            "no machine is the head of this workspace's cluster", "run `molar cluster up` on one, without --join"
        )
    if join or not head.head:
        role = "is the head" if head.head else "has joined the head"
        return SettingsError(f"this machine {role} already", "run `molar cluster down` first to change that")
    return SettingsError(
        f"{head.name} is the head of this workspace's cluster",
        f"join it: `molar cluster up --join`; if it is gone for good, remove {FOLDER}/{head.name}.json there",
    )


def _start(member: Member, record: Path, token: Path, options: list[str]) -> None:
    """Start Ray's processes beneath one that ends them where it ends, and wait until they answer."""
    if member.head:
        gcs, client = member.gcs.rpartition(":")[2], member.url.rpartition(":")[2]
        role = ["--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--include-dashboard=false"]
        role += [f"--temp-dir={member.scratch}", "--disable-usage-stats"]
    else:
        role = [f"--address={member.gcs}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *options]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {**ClusterAddress(member.url, token).environment(), **with_token(token), _MARK: member.mark}
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
    said = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
    _end(member, record)
    raise BackendError(
        f"Ray does not start on {member.name}: {''.join(said) or 'it says nothing'}",
        "perhaps its ports are taken: name others by --port and --gcs-port",
    )


def _stands(member: Member) -> bool:
    """Whether the head answers, and asks for the token."""
    return ClusterAddress(member.url).doorkeeper(timeout=1.0) is Doorkeeper.REFUSES


def _end(member: Member, record: Path) -> None:
    """End all processes of a member on this machine, and forget it."""
    for number, patience in ((signal.SIGTERM, _ENDS), (signal.SIGKILL, _ENDS)):
        deadline = time.monotonic() + patience
        for pid in member.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while member.processes and time.monotonic() < deadline:
            time.sleep(0.1)
    shutil.rmtree(member.scratch, ignore_errors=True)
    record.unlink(missing_ok=True)


def _token(folder: Path) -> Path:
    path = folder / TOKEN
    if not path.exists():
        write_atomically(path, secrets.token_hex(32), mode=OWNER)
    return path


def _own_address(other: str | None) -> str:
    """The address of this machine in the network by which it reaches another one, or any other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other.rpartition(":")[0] if other else "192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _read(record: Path) -> Member | None:
    try:
        return Member(**json.loads(record.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _own_processes() -> list[int]:
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit() and int(path.name) != os.getpid()]


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
