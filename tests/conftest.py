"""Fixtures that all tests share."""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import hypothesis
import portalocker
import pytest
from settings_for_tests import SMALL_ALIGNMENT
from warm import MOLAR, Warm

ROOT = Path(__file__).resolve().parents[1]
_FIRST = ("test_documents.py", "test_cli_real.py")
hypothesis.settings.register_profile("unhurried", deadline=None)  # an example takes as long as the machine is busy
hypothesis.settings.load_profile("unhurried")
os.environ["XDG_CONFIG_HOME"] = str(ROOT / ".work" / "no-configuration")  # not of who runs the tests
gc.disable()  # while a million objects come into being that stay to the end


def pytest_collection(session: pytest.Session) -> None:
    """Processes that run the tests together begin with files of their own: what is compiled is compiled once."""
    if (together := getattr(session.config, "workerinput", None)) is not None:
        files = [file for path in session.config.args for file in sorted(Path(path).rglob("test_*.py"))]
        number, count = int(together["workerid"].removeprefix("gw")), together["workercount"]
        for file in files[len(files) * number // count : len(files) * (number + 1) // count]:
            if (folder := str(file.resolve().parent)) not in sys.path:
                sys.path.insert(0, folder)
            with suppress(Exception, pytest.skip.Exception):  # told where it is collected
                importlib.import_module(file.stem)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """All is collected: from now on look for garbage among new objects only."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the trained shop, which takes 15 seconds to make; files that do without it for long go first.

    So one process makes it while another has its work.
    """
    items.sort(key=lambda item: item.path.name not in _FIRST)
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker("trains")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Wait for no disk, but where time is measured: only a machine that loses its power could tell, no test can.

    Processes that tests start, and that are killed, wait for it as ever.
    """
    with pytest.MonkeyPatch.context() as patched:
        if item.get_closest_marker("alone") is None:
            patched.setattr(os, "fsync", os.fstat)  # is it a file, at least?
            patched.setattr(os, "fdatasync", os.fstat)
        return (yield)


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    """Close what `molar query` leaves open for the end of its process, where tests run it in their own."""
    yield
    query = sys.modules.get("molar_cli.commands.query")
    while query is not None and query._kept:
        query._kept.pop().close()


@pytest.fixture
def user_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the user's own configuration, which the test then has; returns its path."""

    def write(text: str) -> Path:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        path = tmp_path / "config" / "molar" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return path

    return write


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set by name; skips the test, saying so, where it is absent."""
    root = Path(os.environ.get("MOLAR_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        path = root / name
        if not path.is_dir():
            pytest.skip(f"the data set {name} is not in {root} (set MOLAR_DATA)")
        return path

    return folder


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs Python programs that would take seconds to import libraries."""
    running = Warm()
    yield running
    running.close()


@dataclass(frozen=True)
class Trained:
    """A small demo shop that went through embed and align."""

    shop: Path
    workspace: Path
    user: str
    new_user: str
    items: int


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small demo shop with the built-in encoder's vectors, aligned and published; not to be changed.

    The processes of one run of the tests have it in common: the first that needs it makes it, the others wait. Runs
    have it in common in the folder that ``MOLAR_TEST_TRAINED`` names.
    """
    folder = Path(os.environ.get("MOLAR_TEST_TRAINED") or _in_common(tmp_path_factory) / "trained")
    facts = folder / "facts.json"
    with portalocker.Lock(folder.with_suffix(".lock"), timeout=600):
        if not facts.exists():
            made = _train(folder)
            facts.write_text(json.dumps(asdict(made), default=str), "utf-8")
    told = json.loads(facts.read_text("utf-8"))
    return Trained(**told | {name: Path(told[name]) for name in ("shop", "workspace")})


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    """Where `molar demo molar-demo` was run, with one epoch of training, by the first process of a run that needs it.

    README goes on from there; others read its catalogue and its vectors, which stay as they are.
    """
    folder = _in_common(tmp_path_factory) / "demo"
    with portalocker.Lock(folder.with_suffix(".lock"), timeout=600):
        if not folder.exists():
            folder.mkdir()
            done = warm.run(MOLAR, "demo", "molar-demo", cwd=folder, MOLAR_ALIGN_EPOCHS="1")
            (folder / "said").write_text(done.stdout, "utf-8")
            assert done.returncode == 0, done.stderr
    return folder


def _in_common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the processes of this run have in common."""
    ours = tmp_path_factory.getbasetemp()
    return ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours


def _train(folder: Path) -> Trained:
    import torch

    import molar

    torch.set_num_threads(1)
    made = molar.demo(folder, items=100, users=160)
    settings = folder.with_name("trained-settings") / "molar.toml"
    settings.parent.mkdir(exist_ok=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
    settings.write_text("\n".join(["[align]", *lines]), "utf-8")
    shop = molar.Shop(made.facts.folder, made.shop.workspace, settings)
    shop.embed()
    shop.align()
    return Trained(made.facts.folder, shop.workspace, made.facts.example_user, made.facts.new_user, made.facts.items)
