"""Generations: built aside, proved, switched at once, kept, rolled back, pruned under their readers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from molar_indexes import publish_check
from molar_indexes import users as indexes_users
from molar_indexes.exact import ExactIndex
from molar_indexes.generations import Generation, list_generations, open_generation, publish, rollback
from molar_indexes.users import UserRecord, UserStore
from molar_indexes.verify import verify
from molar_retrieval.errors import BackendError, DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, SparseVector
from molar_retrieval.ranking.objectives import last
from molar_retrieval.workspace import artefacts
from molar_retrieval.workspace.artefacts import Manifest, Workspace

SPEC = IndexSpec(
    {"aligned": 4, "cold_start": 4, "content": 3}, {"brand": "keyword", "new": "bool"}, sparse=("item_item",)
)
N = 60


def items(mark: int, n: int = N) -> Iterator[IndexItem]:
    """Every payload and score carries ``mark``, so that an answer mixed from two generations gives itself away."""
    for row in range(n):
        aligned = [float(mark), float(row), 1.0, 0.5]
        payload = {"brand": f"brand {row % 3}", "new": row % 2 == 0, "mark": mark, "none": None}
        # The last three have no interactions, so no partners.
        first, neighbors = ("aligned", {"item_item": SparseVector([row, row + n], [0.1, 0.5])})
        if row >= n - 3:
            first, neighbors = "cold_start", {}
        yield IndexItem(row, f"item {row}", {first: aligned, "content": [1.0, float(row), 2.0]}, payload, neighbors)


def users(mark: int, n: int = N) -> Iterator[UserRecord]:
    for row in range(40):
        sparse = SparseVector([row, row + n], [1.0, 0.3])
        yield UserRecord(
            f"user {row}", [1.0, 0.0, 0.0, float(mark)], [row % n, (row + mark) % n], sparse, {}, [row, 9_000_000_000]
        )


def release(workspace: Workspace, mark: int = 1, backend: str = "edge", **more: Any) -> Generation:
    arguments: dict[str, Any] = {
        "items": items(mark), "users": users(mark), "popular": [(3, 9), (1, 4)], "inputs": {"alignment": f"a{mark}"},
        "parts": {"content": (0, 2), "id_tower": (2, 4)}, "settings": {"m": 16}, "facts": {"mark": mark},
        "sparse_parts": {"ease": (0, N), "sequential": (N, 2 * N)}, "slots": last(2),
    }  # fmt: skip
    return publish(workspace, backend=backend, spec=SPEC, **(arguments | more))


def released(folder: Path) -> Workspace:
    """The workspace of a shop below a folder, with its first generation."""
    (folder / "shop").mkdir()
    workspace = Workspace.for_catalogue(folder / ".molar", folder / "shop")
    release(workspace, 1).close()
    return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "shop").mkdir()
    return Workspace.for_catalogue(tmp_path / "wörk #1" / ".molar", tmp_path / "shop")


def ask(generation: Generation) -> tuple[int, int]:
    """The mark of an answer, from its payload and from its score."""
    user = generation.users.get("user 7")
    assert user is not None
    hits = generation.index.top("aligned", [1.0, 0.0, 0.0, 0.0], 5, exclude=user.history)
    assert not {row for row, _ in hits} & set(user.history)
    stored = generation.index.fetch([row for row, _ in hits])
    marks = {(item.payload["mark"], int(score)) for item, (_, score) in zip(stored, hits, strict=True)} | {
        (int(user.vector[3]), int(user.vector[3]))
    }
    assert len(marks) == 1, marks
    return marks.pop()


@pytest.mark.parametrize("backend", ["edge", "exact"])
def test_what_is_published_can_be_opened(workspace: Workspace, backend: str) -> None:
    with release(workspace, 5, backend) as published:
        assert ask(published) == (5, 5)
    with open_generation(workspace) as generation:
        assert ask(generation) == (5, 5)
        assert generation.name == published.name
        assert generation.backend == backend
        assert generation.spec == SPEC
        assert generation.popular == [(3, 9), (1, 4)]
        assert generation.parts == {"content": (0, 2), "id_tower": (2, 4)}
        assert generation.sparse_parts == {"ease": (0, 60), "sequential": (60, 120)}
        assert (generation.cold_items, generation.slots) == (3, (9, 10))
        assert generation.manifest.inputs == {"alignment": "a5"}
        assert generation.manifest.settings == {"m": 16}
        assert generation.manifest.facts["mark"] == 5
        assert generation.manifest.facts["items"] == N
        assert generation.manifest.facts["users"] == 40
        assert verify(generation, deep=True) == []
    (line,) = list_generations(workspace)
    taken = line.bytes
    assert 0 < taken <= sum(path.stat().st_size + 4096 for path in published.folder.rglob("*") if path.is_file())
    assert line.to_dict() == {
        "name": published.name, "live": True, "backend": backend, "items": N, "users": 40,
        "created": generation.manifest.created, "problem": None, "graphs": {},
        "bytes": taken, "inputs": {"alignment": "a5"}, "events": {},
    }  # fmt: skip


def test_nothing_published_yet(workspace: Workspace) -> None:
    with pytest.raises(MissingArtefactError) as error:
        open_generation(workspace)
    assert "molar align" in error.value.hint
    assert list_generations(workspace) == []
    with pytest.raises(MissingArtefactError):
        rollback(workspace)


def test_one_that_is_not_activated_waits_and_the_first_goes_live_in_any_case(workspace: Workspace) -> None:
    with release(workspace, 1, "exact", activate=False, keep=0) as first:
        assert [line.live for line in list_generations(workspace)] == [True]
    with release(workspace, 2, "exact", activate=False, keep=0) as second:
        assert ask(second) == (2, 2)
    assert [(line.name, line.live) for line in list_generations(workspace)] == [
        (first.name, True),
        (second.name, False),
    ]
    assert rollback(workspace, second.name).live
    with open_generation(workspace) as live:
        assert ask(live) == (2, 2)


def test_two_older_ones_stay_and_can_be_rolled_back_to(workspace: Workspace) -> None:
    names = []
    for mark in range(1, 5):
        with release(workspace, mark, "exact") as generation:
            names.append(generation.name)
    assert [line.name for line in list_generations(workspace)] == names[1:]
    assert names == sorted(names, key=lambda name: name[:15])
    assert rollback(workspace).name == names[2]
    assert [line.live for line in list_generations(workspace)] == [False, True, False]
    with open_generation(workspace) as generation:
        assert ask(generation) == (3, 3)
    assert rollback(workspace).name == names[1]
    with pytest.raises(MissingArtefactError, match="before"):
        rollback(workspace)
    assert rollback(workspace, names[3]).live
    with pytest.raises(MissingArtefactError) as error:
        rollback(workspace, names[0])
    assert names[3] in error.value.hint
    with open_generation(workspace, names[1]) as generation:
        assert ask(generation) == (2, 2)
    with release(workspace, 9, "exact", keep=0):
        pass
    assert len(list_generations(workspace)) == 1


@pytest.mark.parametrize("backend", ["edge", "exact"])
def test_an_open_generation_stays_and_goes_with_the_next_publication(workspace: Workspace, backend: str) -> None:
    root = workspace["generations"].root
    old = release(workspace, 1, backend, keep=0)
    release(workspace, 2, backend, keep=0).close()
    with release(workspace, 3, backend, keep=0) as new:
        assert {f.name for f in root.glob("*/")} == {old.name, new.name}
        assert ask(old) == (1, 1)
        assert ask(new) == (3, 3)
        with open_generation(workspace, old.name) as again:
            old.close()
            release(workspace, 4, backend, keep=0).close()
            assert ask(again) == (1, 1)
            assert sum(len(batch) for batch in again.users.batches(7)) == 40
            assert again.index.fetch([N - 1], vectors=["content"])[0].item_id == f"item {N - 1}"
            assert len(again.table.items) == N
    with release(workspace, 5, backend, keep=0) as new:
        assert [f.name for f in root.glob("*/")] == [new.name]


@pytest.mark.parametrize(
    ("what", "backend"),
    [
        ("manifest.json", "exact"),
        ("files.json", "exact"),
        ("popular.json", "exact"),
        ("users.sqlite", "exact"),
        ("index", "exact"),
        ("index", "edge"),
    ],
)
def test_damage_is_refused_and_the_one_before_still_works(workspace: Workspace, what: str, backend: str) -> None:
    release(workspace, 1, backend).close()
    with release(workspace, 2, backend) as broken:
        folder = broken.folder
    victims = [folder / what]
    if what == "index":
        victims = [f for f in (folder / "index").rglob("*") if f.is_file() and f.suffix != ".json"]
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(StaleArtefactError) as error:
        open_generation(workspace)
    assert "molar" in error.value.hint
    assert len(list_generations(workspace)) == 2
    if what != "manifest.json":  # these two were published within one second, and the manifest tells which is older
        assert rollback(workspace).live
    else:
        assert [line.problem for line in list_generations(workspace)].count(None) == 1
        rollback(workspace, next(line.name for line in list_generations(workspace) if line.problem is None))
    with open_generation(workspace) as generation:
        assert ask(generation) == (1, 1)
    with pytest.raises(StaleArtefactError):
        rollback(workspace, folder.name)
    with release(workspace, 3, backend) as generation:
        assert ask(generation) == (3, 3)


@pytest.mark.parametrize("backend", ["edge", "exact"])
def test_deep_verification_reads_every_byte(workspace: Workspace, backend: str) -> None:
    with release(workspace, 1, backend) as generation:
        folder = generation.folder
    files = [f for f in folder.rglob("*") if f.is_file() and f.suffix != ".json" and f.stat().st_size > 100]
    victim = max(files, key=lambda f: (f.name in ("matrix.dat", "vectors.safetensors"), f.stat().st_size))
    content = bytearray(victim.read_bytes())
    content[-3] ^= 0x40
    victim.write_bytes(content)
    with open_generation(workspace) as generation:
        problems = verify(generation, deep=True)
    assert any(victim.name in problem for problem in problems)


def test_verification_names_stale_inputs(workspace: Workspace) -> None:
    with release(workspace, 1) as generation:
        assert verify(generation, workspace) == []
        store = workspace["alignment"]
        store.publish(store.partial("other"), Manifest("alignment", "other"))
        (problem,) = verify(generation, workspace)
        assert "alignment" in problem
        assert "molar align" in problem


def test_verification_notices_wrong_counts_and_users(workspace: Workspace) -> None:
    with release(workspace, 1) as generation:
        facts = dict(generation.manifest.facts) | {"items": 61, "users": 39}
        manifest = Manifest("generations", "x", facts=facts)
        changed = Generation(
            generation.folder, manifest, "edge", generation.index, generation.users, [(99, 1)], generation.parts
        )
        problems = verify(changed)
    assert len(problems) == 3


def test_verification_notices_damaged_sparse_vectors(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = SparseVector([2, 1], [1.0, 1.0])
    with release(workspace, 1, "exact") as generation:
        stored, some = ExactIndex._stored, [replace(user, sparse=damaged) for user in users(1)]
        monkeypatch.setattr(ExactIndex, "_stored", lambda *a: replace(stored(*a), sparse={"item_item": damaged}))
        monkeypatch.setattr(UserStore, "batches", lambda *_: iter([some]))
        problems = verify(generation)
    assert "the sparse vector 'item_item' of item 'item 5' is damaged" in problems
    assert "the sparse vector of user 'user 7' is damaged" in problems


def test_a_failing_build_leaves_nothing_behind(workspace: Workspace) -> None:
    release(workspace, 1, "exact").close()
    bad = [*items(2), IndexItem(5, "again", {}, {})]
    with pytest.raises(DataError, match="again"):
        release(workspace, 2, "exact", items=iter(bad))
    with pytest.raises(DataError, match="user 3"):
        release(workspace, 2, "exact", users=[*users(2), UserRecord("user 3", [0.0] * 4, [])])
    with pytest.raises(DataError, match="row"):
        release(workspace, 2, "exact", users=[UserRecord("u", [0.0] * 4, [N], times=[0])])
    assert workspace["generations"].partials() == []
    with open_generation(workspace) as generation:
        assert ask(generation) == (1, 1)


def test_the_proof_notices_a_wrong_index(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    release(workspace, 1).close()
    build = publish_check.open_index

    def open_wrong(folder: Path, backend: str, spec: IndexSpec) -> Any:
        index = build(folder, backend, spec)
        fetch = index.fetch
        monkeypatch.setattr(index, "fetch", lambda rows, vectors=(): fetch([r + 1 for r in rows], vectors=vectors))
        return index

    monkeypatch.setattr(publish_check, "open_index", open_wrong)
    with pytest.raises(BackendError, match="give back"):
        release(workspace, 2, backend="exact")
    monkeypatch.undo()
    with open_generation(workspace) as generation:
        assert ask(generation) == (1, 1)


def test_the_proof_notices_wrong_times(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    row = indexes_users._row
    monkeypatch.setattr(indexes_users, "_row", lambda *a: (*row(*a)[:3], bytes(16), *row(*a)[4:]))
    with pytest.raises(BackendError, match="other times"):
        release(workspace, 1, "exact")


@pytest.mark.parametrize(("times", "right"), [([0, 0], True), ([3], False), ([4, 3], False), ([], False)])
def test_times_that_do_not_fit_a_history_are_found(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, times: list[int], right: bool
) -> None:
    with release(workspace, 1, "exact") as generation:
        between = generation.users.between
        monkeypatch.setattr(
            generation.users, "between", lambda *ends: [replace(user, times=times) for user in between(*ends)]
        )
        problems = [problem for problem in verify(generation) if "do not fit the history" in problem]
        assert (problems == []) == right


@pytest.mark.parametrize("what", ["items", "users", "scores"])
def test_the_proof_notices_wrong_sparse_vectors(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "users":
        row, other = indexes_users._row, (array("i", [3]).tobytes(), array("f", [1]).tobytes())
        monkeypatch.setattr(indexes_users, "_row", lambda *a: (*row(*a)[:4], *other, *row(*a)[6:]))
    else:
        right = ExactIndex._stored if what == "items" else ExactIndex._sparse_scores

        def wrong(self: ExactIndex, *arguments: Any) -> Any:
            found = right(self, *arguments)
            return replace(found, sparse={}) if what == "items" else (2 * found[0], found[1])

        monkeypatch.setattr(ExactIndex, right.__name__, wrong)
    with pytest.raises(BackendError, match="give back"):
        release(workspace, 1, "exact")


@pytest.mark.parametrize("backend", ["edge", "exact"])
def test_a_manifest_without_newcomers_and_partners_can_be_read(workspace: Workspace, backend: str) -> None:
    spec = IndexSpec({"aligned": 4, "content": 3})
    before = [IndexItem(i.row, i.item_id, {"aligned": [1.0] * 4}, i.payload) for i in items(1)]
    people = [UserRecord(u.user_id, u.vector, u.history, times=u.times) for u in users(1)]
    arguments = {"popular": [(3, 9)], "inputs": {}, "parts": {"content": (0, 4)}}
    generation = publish(workspace, backend=backend, spec=spec, items=before, users=people, **arguments)
    generation.close()
    path = generation.folder / "manifest.json"
    content = json.loads(path.read_text("utf-8"))
    for name in ("sparse_parts", "slots", "cold_start"):
        del content["facts"][name]
    del content["facts"]["spec"]["sparse"]
    path.write_text(json.dumps(content), "utf-8")
    artefacts.write_inventory(generation.folder)
    with open_generation(workspace) as opened:
        assert (opened.sparse_parts, opened.slots, opened.cold_items) == ({}, (), 0)
        assert opened.spec == spec
        found = opened.users.get("user 7")
        assert found is not None
        assert found.sparse == SparseVector((), ())
        assert len(opened.index.top("aligned", found.vector, 5)) == 5


def test_an_empty_generation(workspace: Workspace) -> None:
    with release(workspace, items=[], users=[], popular=[]) as generation:
        assert len(generation.index) == len(generation.users) == 0
        assert verify(generation, deep=True) == []


def test_a_second_publisher_is_kept_out(workspace: Workspace) -> None:
    with workspace.lock("generations"), pytest.raises(DataError, match="another process"):
        release(workspace, 1)


def child(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that can import this file."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_publish_leaves_the_live_one(workspace: Workspace) -> None:
    release(workspace, 1).close()
    program = """
        import time
        from pathlib import Path
        from test_indexes_generations import items, release, users
        from molar_retrieval.workspace.artefacts import Workspace
        where, stage = sys.argv[1:]
        def slow(stream, name):
            for n, x in enumerate(stream):
                if name == stage and n == 30:
                    print("half", flush=True)
                    time.sleep(60)
                yield x
        release(Workspace(Path(where)), 2, items=slow(items(2), "items"), users=slow(users(2), "users"))
    """
    for stage in ("items", "users"):
        process = child(program, str(workspace.root), stage)
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        assert workspace["generations"].partials()
        with open_generation(workspace) as generation:
            assert ask(generation) == (1, 1)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        with open_generation(workspace) as generation:
            assert ask(generation) == (1, 1)
    with release(workspace, 3) as generation:
        assert ask(generation) == (3, 3)
    assert workspace["generations"].partials() == []


@pytest.mark.slow
def test_processes_query_while_another_publishes(workspace: Workspace) -> None:
    release(workspace, 1).close()
    program = """
        import json, time
        from pathlib import Path
        from test_indexes_generations import ask
        from molar_indexes.generations import open_generation
        from molar_retrieval.workspace.artefacts import Workspace
        workspace, stop, stay = Workspace(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3] == "stay"
        marks, rounds = [], 0
        held = open_generation(workspace)
        first = ask(held)[0]
        print("ready", flush=True)
        while not stop.exists():
            if stay:
                assert ask(held)[0] == first
            with open_generation(workspace) as generation:
                marks.append(ask(generation)[0])
            rounds += 1
        assert marks == sorted(marks), marks
        print(json.dumps([marks[0], marks[-1], len(set(marks)), rounds]), flush=True)
    """
    stop = workspace.root / "stop"
    readers = [child(program, str(workspace.root), str(stop), mode) for mode in ("stay", "go", "go")]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for mark in (2, 3, 4, 5):
        release(workspace, mark).close()
        time.sleep(0.3)
    stop.touch()
    for reader in readers:
        out, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        _, last, _, rounds = json.loads(out)
        assert last == 5
        assert rounds > 5
    release(workspace, 6).close()
    assert [line.name for line in list_generations(workspace) if line.problem] == []
    assert len(list_generations(workspace)) == 3


def test_opening_is_light(workspace: Workspace) -> None:
    release(workspace, 1).close()
    program = """
        from pathlib import Path
        from molar_indexes.generations import open_generation
        from molar_retrieval.workspace.artefacts import Workspace
        with open_generation(Workspace.open(Path(sys.argv[1]))) as generation:
            user = generation.users.get("user 7")
            assert generation.index.top("aligned", user.vector, 5, exclude=user.history)
        heavy = {"numpy", "torch", "pyarrow", "pydantic", "qdrant_client"} & set(sys.modules)
        assert not heavy, heavy
    """
    process = child(program, str(workspace.root))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
