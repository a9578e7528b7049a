"""The users of a generation in their SQLite file."""

import sqlite3
import subprocess
import sys
import textwrap
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_indexes.users import UserRecord, UserStore, write_users
from molar_retrieval.errors import DataError, StaleArtefactError
from molar_retrieval.privacy.pseudonyms import session_key, user_key
from molar_retrieval.ranking.index_protocol import SparseVector

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def some(names: list[str]) -> list[UserRecord]:
    """Users of whom every third has no sparse vector."""
    times = [0, 5, 9_000_000_000]
    return [UserRecord(name, [float(n), 0.5], [n % 9, 3, n % 9], weights(n), {}, times) for n, name in enumerate(names)]


def weights(n: int) -> SparseVector:
    return SparseVector(array("i", [n, n + 7]), array("f", [0.25, 1.0])) if n % 3 else SparseVector((), ())


@settings(deadline=None, max_examples=40)
@given(st.lists(ids, unique=True, max_size=30))
def test_every_id_comes_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("users") / "users.sqlite"
    assert write_users(path, some(names), dim=2, items=9) == len(names)
    with UserStore(path) as store:
        assert len(store) == len(names)
        for n, name in enumerate(names):
            found = store.get(name)
            history, times = array("i", [n % 9, 3, n % 9]), array("q", [0, 5, 9_000_000_000])
            assert found == UserRecord(name, array("f", [n, 0.5]), history, weights(n), {}, times)
        assert [r.user_id for batch in store.batches(7) for r in batch] == names
        assert store.get("no such user at all") is None


def test_numpy_goes_in_and_arrays_come_out(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).normal(size=128).astype(np.float32)
    history = np.arange(3000, dtype=np.int32)
    at, numbers = np.array([0, 5, 6, 2**31 - 1]), np.array([0.1, 0.0, 3e-9, 7])
    times = 10**10 + np.arange(3000)
    user = UserRecord("u", vector, history, SparseVector(at, numbers), {}, times)  # type: ignore[arg-type]
    write_users(tmp_path / "u", [user], dim=128, items=3000)
    with UserStore(tmp_path / "u") as store:
        found = store.get("u")
        assert found is not None
        assert isinstance(found.vector, array)
        assert found.vector.tolist() == vector.tolist()
        assert list(found.history) == history.tolist()
        assert list(found.times) == times.tolist()
        assert list(found.sparse.indices) == [0, 6, 2**31 - 1]
        assert list(found.sparse.values) == numbers[[0, 2, 3]].astype(np.float32).tolist()
        assert store.dim == 128


@pytest.mark.parametrize("name", ["with space", "#hash", "per%20cent", "que?ry", "größe🧦", "semi;colon&mode=rw"])
def test_paths_of_any_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / f"{name}.sqlite"
    path.parent.mkdir()
    write_users(path, some(["a"]), dim=2, items=9)
    with UserStore(path) as store:
        assert store.get("a") is not None
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_users(tmp_path / "u", some(["a"]), dim=2, items=9)
    monkeypatch.chdir(tmp_path)
    assert UserStore(Path("u")).get("a") is not None


@pytest.mark.parametrize(
    ("user", "word"),
    [
        (UserRecord("twin", [1.0, 2.0], []), "more than once"),
        (UserRecord("short", [1.0], []), "'short'"),
        (UserRecord("nan", [1.0, float("nan")], []), "'nan'"),
        (UserRecord("row", [1.0, 2.0], [9]), "'row'"),
        (UserRecord("negative", [1.0, 2.0], [0, -1]), "'negative'"),
        (UserRecord("timeless", [1.0, 2.0], [0]), "1 items and 0 times"),
        (UserRecord("younger", [1.0, 2.0], [0, 1], times=[7, 6]), "'younger'"),
        (UserRecord("endless", [1.0, 2.0], [0], SparseVector([3], [float("inf")]), {}, [0]), "'endless'"),
        (UserRecord("order", [1.0, 2.0], [0], SparseVector([3, 2], [1.0, 1.0]), {}, [0]), "'order'"),
        (UserRecord("uneven", [1.0, 2.0], [0], SparseVector([3, 4], [1.0]), {}, [0]), "'uneven'"),
    ],
)
def test_users_that_do_not_fit_are_refused(tmp_path: Path, user: UserRecord, word: str) -> None:
    with pytest.raises(DataError) as error:
        write_users(tmp_path / "u", [*some(["twin"]), user], dim=2, items=9)
    assert word in error.value.message


def test_users_without_history(tmp_path: Path) -> None:
    write_users(tmp_path / "u", [UserRecord("new", [0.0, 0.0], [])], dim=2, items=9)
    with UserStore(tmp_path / "u") as store:
        assert store.get("new") == UserRecord("new", array("f", [0, 0]), array("i"), times=array("q"))


def test_an_id_is_looked_up_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_users(tmp_path / "u", some(["p429", "p431"]), dim=2, items=9)
    monkeypatch.setattr("molar_indexes.users.user_key", lambda user_id: f"p{sum(user_id.encode())}")
    with UserStore(tmp_path / "u") as store:
        found = store.get("bert")
        assert found is not None
        assert found.user_id == f"p{sum(b'bert')}"


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "u"
    with pytest.raises(StaleArtefactError):
        UserStore(path)
    path.write_bytes(b"")
    with pytest.raises(StaleArtefactError):
        UserStore(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StaleArtefactError) as error:
        UserStore(path)
    assert "molar align" in error.value.hint
    path.unlink()
    write_users(path, some([str(n) for n in range(5000)]), dim=2, items=9)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StaleArtefactError), UserStore(path) as store:
        list(store.batches())


def test_a_file_of_the_format_before_is_named(tmp_path: Path) -> None:
    path = tmp_path / "u"
    write_users(path, some(["a"]), dim=2, items=9)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(StaleArtefactError, match="format 1, not 5") as error:
        UserStore(path)
    assert "molar align" in error.value.hint


def test_threads_may_share_a_store(tmp_path: Path) -> None:
    names = [f"u{n}" for n in range(500)]
    write_users(tmp_path / "u", some(names), dim=2, items=9)
    wrong: list[str] = []
    with UserStore(tmp_path / "u") as store:

        def ask(offset: int) -> None:
            for n in range(offset, 500, 4):
                found = store.get(f"u{n}")
                if found is None or found.vector[0] != n:
                    wrong.append(f"u{n}")
            if sum(len(batch) for batch in store.batches(50)) != 500:
                wrong.append("batches")

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_reading_imports_nothing_heavy(tmp_path: Path) -> None:
    write_users(tmp_path / "u", some(["a"]), dim=2, items=9)
    program = f"""
        import sys
        from pathlib import Path
        from molar_indexes.users import UserStore
        with UserStore(Path({str(tmp_path / "u")!r})) as store:
            assert list(store.get("a").history) == [0, 3, 0]
        heavy = {{"numpy", "torch", "pyarrow", "pydantic"}} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def test_somebody_known_by_a_session_is_found_by_key_alone(tmp_path: Path) -> None:
    path, session = tmp_path / "users.sqlite", session_key("s")
    write_users(path, some([session, user_key(session)]), dim=2, items=9)
    with UserStore(path) as store:
        assert [store.keyed(key).user_id for key in (session, user_key(session))] == [session, user_key(session)]  # type: ignore[union-attr]
        assert store.get(session).user_id == user_key(session)  # type: ignore[union-attr]
        assert store.get("s") is None
