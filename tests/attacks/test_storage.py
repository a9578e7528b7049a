"""The workspace on disk.

Bytes change, the power fails, the clock is set back, pointers are edited, the file system has no locks.
"""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar.doctor.workspace import artefacts, generations
from molar_indexes import generations as indexes_generations
from molar_indexes.generations import list_generations, open_generation, rollback
from molar_indexes.verify import bytes_changed, verify
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.embedding import ContentVectors, embed
from molar_retrieval.errors import DataError, MissingArtefactError, StaleArtefactError
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.workspace import artefacts as module
from molar_retrieval.workspace.artefacts import MAKERS, Manifest, Workspace
from molar_retrieval.workspace.settings import EmbedSettings

KINDS = ("catalogue", "interactions", "content", "alignment")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "workspace.json").write_text(f'{{"format": 1, "catalogue": "{tmp_path}", "beside": "."}}')
    return Workspace(tmp_path)


def release(place, name="als", **options):
    """Publish a small artefact of a kind."""
    store = place["als"]
    partial = store.partial(name)
    (partial / "deep").mkdir()
    (partial / "deep" / "some.bin").write_bytes(name.encode())
    (partial / "factors.bin").write_bytes(os.urandom(64))
    return store.publish(partial, Manifest("als", name), **options)


def flipped(path, random):
    """Change one bit of one byte of a file; returns what it held."""
    content = path.read_bytes()
    where = int(random.integers(len(content)))
    path.write_bytes(content[:where] + bytes([content[where] ^ (1 << int(random.integers(8)))]) + content[where + 1 :])
    return content


def told(workspace, *sections):
    """Everything that `molar doctor --deep` calls wrong."""
    entries = [entry for section in sections for entry in section(workspace.root, True) if entry.problem]
    return [str(problem) for entry in entries for problem in [entry.problem, *(entry.data or {}).get("problems", [])]]


def test_flipped_bytes(shop, rounds, measured):
    """A changed byte in any file of any version is found by `molar doctor --deep`, and named."""
    workspace, random = Workspace(shop.workspace), np.random.default_rng(0)
    assert told(workspace, artefacts, generations) == []
    found = 0
    folders = {kind: workspace[kind].require()[0] for kind in MAKERS}
    assert [name for kind in MAKERS for name in module.check_inventory(folders[kind], digests=True)] == []
    with open_generation(workspace) as generation:
        assert verify(generation, workspace, deep=True) == []
    while found < rounds(40, 500):
        victims = []
        for kind, folder in folders.items():
            files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.stat().st_size]
            files = [f for f in files if f.parent != folder or f.name not in ("manifest.json", "files.json")]
            victims += list(random.choice(files, min(len(files), 40 if kind == "generations" else 3), replace=False))
        before = {path: flipped(path, random) for path in victims}
        problems = told(workspace, artefacts, generations)
        missed = [path for path in victims if not any(f"{path.name} was changed" in one for one in problems)]
        assert not missed
        found += len(victims)
        whole = folders["generations"]
        assert bytes_changed(workspace)
        for path, content in before.items():
            path.write_bytes(content)
        assert not bytes_changed(workspace, whole.name)
    measured(f"{found} of {found} found")


def test_flipped_bytes_of_what_names_and_describes(shop, rounds, measured):
    """A changed byte in a pointer, a manifest, an inventory or `workspace.json` is found by `molar doctor --deep`."""
    workspace, random, found = Workspace(shop.workspace), np.random.default_rng(1), 0
    victims = [workspace.root / "workspace.json"]
    for kind in MAKERS:
        folder = workspace[kind].require()[0]
        victims += [folder.parent / "current", folder / "manifest.json", folder / "files.json"]
    for _ in range(rounds(1, 20)):
        for victim in victims:
            before = flipped(victim, random)
            sections = (generations,) if "generations" in victim.parts else (artefacts,)
            assert told(workspace, *sections), (victim, before, victim.read_bytes())
            victim.write_bytes(before)
            found += 1
    assert told(workspace, artefacts) == []
    measured(f"{found} of {found} found")


def test_verification_reads_what_the_generation_was_made_from(shop):
    """`molar index verify --deep` finds a changed byte in the artefacts that the generation was made from."""
    workspace, random = Workspace(shop.workspace), np.random.default_rng(2)
    victims = []
    for kind in KINDS:
        folder = workspace[kind].require()[0]
        victims.append(next(f for f in sorted(folder.iterdir()) if f.suffix != ".json"))
        flipped(victims[-1], random)
    with open_generation(workspace) as generation:
        assert verify(generation, workspace) == [], "a quick look reads no bytes of theirs"
        problems = verify(generation, workspace, deep=True)
    assert len(problems) == len(KINDS)
    for kind, victim, problem in zip(KINDS, victims, sorted(problems, key=lambda p: _place(p, KINDS)), strict=True):
        assert f"of the {kind} that it was made from, {victim.name} was changed" == problem


def _place(problem, kinds):
    return next(n for n, kind in enumerate(kinds) if f"the {kind} " in problem)


def test_a_vector_that_is_no_number(tmp_path, measured):
    """A NaN among the content vectors is mended by the next `molar embed`, which encodes nothing else anew."""
    from embedding_fakes import FakeEncoder, planned

    folder, n = tmp_path / "shop", 9000
    folder.mkdir()
    names = [f"i{number}" for number in range(n)]
    pq.write_table(pa.table({"item_id": names, "title": names}), folder / "items.parquet")
    workspace = Workspace.for_catalogue(tmp_path / ".molar", folder)
    prepare_catalogue(folder, workspace)

    def run():
        encoder = FakeEncoder()
        return embed(workspace, EmbedSettings(), planner=planned(encoder))

    first = run()
    right = np.array(ContentVectors.open(first.folder).vectors)
    damaged = np.memmap(first.folder / "vectors.safetensors", np.uint8, "r+")
    values = damaged[-right.nbytes :].view("<f4").reshape(right.shape)
    values[[17, 5000], [0, 1]] = np.nan, np.inf
    values.flush()
    again = run()
    assert (again.encoded, again.up_to_date) == (2, True)
    assert (ContentVectors.open(again.folder).vectors == right).all()
    assert module.check_inventory(again.folder, digests=True) == []
    assert run().encoded == 0
    (again.folder / "vectors.safetensors").write_bytes(b"cut")
    assert run().encoded == n
    measured("2 of 9,000 items encoded again")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../cf/v",
        "/etc",
        "a/b",
        "a\\b",
        "a\0b",
        "v.partial",
        "v.trash",
        "x" * 256,
        " v",
        "é\x85",
        "\udcff",
    ],
)
def test_pointers_are_plain_names(place, name):
    """A pointer is the plain name of a finished version: anything else is refused with the remedy, not followed."""
    folder = release(place, "v")
    for sibling in ("v.partial", "v.trash"):
        shutil.copytree(folder, place["als"].root / sibling)
    assert place["als"].require()[0] == folder
    (place["als"].root / "current").write_bytes(name.encode("utf-8", "surrogateescape") + b"\n")
    assert place["als"].current is None
    with pytest.raises(StaleArtefactError, match="does not hold the name of a version") as error:
        place["als"].require()
    assert "run `molar cf`" in error.value.hint
    with pytest.raises(MissingArtefactError):
        place["als"].switch(name)
    assert release(place, "w") == place["als"].require()[0], "the next version mends it"


def test_a_pointer_to_nothing(place):
    """A pointer that names a version that is not there is told apart from nothing having been made."""
    with pytest.raises(MissingArtefactError):
        place["als"].require()
    shutil.rmtree(release(place, "v"))
    with pytest.raises(StaleArtefactError, match="names v, and there is no such version") as error:
        place["als"].require()
    assert "run `molar cf`" in error.value.hint
    assert any("names v, and there is no such version" in problem for problem in told(place, artefacts))
    assert place["als"].manifest is None, "whoever makes it makes it anew"


def test_the_disk_is_waited_for(place, monkeypatch):
    """Every file is on the disk before a pointer moves, and the pointer before anything old is removed."""
    events: list[tuple[str, str]] = []

    def traced(holder, name, told):
        original = getattr(holder, name)

        def call(*arguments, **options):
            events.append((name, told(*arguments)))
            return original(*arguments, **options)

        monkeypatch.setattr(holder, name, call)

    old = release(place, "old")
    traced(os, "fsync", lambda handle: str(Path(f"/proc/self/fd/{handle}").readlink()))
    traced(os, "rename", lambda source, target: str(target))
    traced(os, "replace", lambda source, target: str(target))
    traced(shutil, "rmtree", lambda path, *_: str(path))
    new = release(place, "new")
    root = place["als"].root
    pointer = events.index(("replace", str(root / "current")))
    moved = events.index(("rename", str(new)))
    synced = {path for name, path in events[:moved] if name == "fsync"}
    partial = new.with_name("new.partial")
    wanted = [p.relative_to(new) for p in [new, *new.rglob("*")]]
    # `manifest.json` is written under another name first; its own sync follows like the others'.
    assert {str(partial / path) if str(path) != "." else str(partial) for path in wanted} <= synced
    assert ("fsync", str(root)) in events[moved:pointer]
    removed = events.index(("rename", f"{old}.trash"))
    assert ("fsync", str(root)) in events[pointer:removed]
    assert not {("rmtree", str(old)), ("rmtree", str(new))} & set(events)
    assert not old.exists()


@pytest.mark.parametrize("at", ["write_inventory", "sync_tree", "sync_folder", "write_atomically", "discard"])
def test_killed_anywhere_while_publishing(place, monkeypatch, at):
    """A command that is killed at any step of publishing leaves the old version or the new one, whole, to be read."""

    class Killed(BaseException):
        pass

    def die(*arguments, **options):
        raise Killed

    old = release(place, "old")
    names = {old.name, "new"}
    for again in ("new", "old"):  # under another name, and in place of the live one
        with monkeypatch.context() as patch:
            patch.setattr(module, at, die)
            with pytest.raises(Killed):
                release(place, again)
        folder, manifest = place["als"].require()
        assert manifest.fingerprint in names
        assert module.check_inventory(folder, digests=True) == []
        shutil.rmtree(place["als"].root / f"{again}.partial", ignore_errors=True)
    shutil.rmtree(place["als"].root / "old.partial", ignore_errors=True)
    assert release(place, "old") == place["als"].require()[0]
    assert len(place["als"].versions()) == 1


def test_the_clock_is_set_back(place, monkeypatch):
    """Versions keep their order when the clock is set back: by number, not by time."""
    spec = IndexSpec({"aligned": 2})

    def publish(day, keep=2):
        class Clock(indexes_generations.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 3, day, tzinfo=tz)

        monkeypatch.setattr(indexes_generations, "datetime", Clock)
        monkeypatch.setattr("molar_retrieval.workspace.artefacts.datetime", Clock)
        item = IndexItem(0, "a", {"aligned": [1.0, 0.0]}, {})
        arguments = {"items": [item], "users": [], "popular": [], "inputs": {}, "parts": {"x": (0, 2)}}
        with indexes_generations.publish(place, backend="exact", spec=spec, keep=keep, **arguments) as made:
            return made.name

    made = [publish(day) for day in (20, 10, 15)]
    assert made != sorted(made)
    assert [line.name for line in list_generations(place)] == made
    numbers = [Manifest.read(place["generations"].root / name).number for name in made]
    assert numbers == [1, 2, 3]
    assert rollback(place).name == made[1]
    assert rollback(place).name == made[0]
    made.append(publish(5))
    assert [line.name for line in list_generations(place)] == made[-3:], "two older ones stay, the oldest goes"
    (place["generations"].root / made[2] / "manifest.json").write_text("{")
    assert {line.name for line in list_generations(place)} == set(made[-3:]), "a damaged one is listed"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(place, monkeypatch, number):
    """A file system without locks is named as such, and not taken for another process at work."""

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("portalocker.portalocker.LOCKER", refuse)
        with pytest.raises(DataError, match=r"file system of .* has no locks") as error, place.lock("als"):
            pass
    assert "local disk" in error.value.hint
    with place.lock("als"), pytest.raises(DataError, match="another process"), place.lock("als"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "catalogue": "/x"}', '{"format": 1}', "\udcff"])
def test_a_damaged_workspace_file(place, content):
    """A damaged `workspace.json` is an error with a remedy."""
    (place.root / "workspace.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(StaleArtefactError, match=r"damaged|format 2") as error:
        _ = place.catalogue
    assert "molar embed" in error.value.hint
    assert told(place, artefacts)


def test_damaged_caches(tmp_path, rounds, measured):
    """What is only remembered to save time, digests of weights and measurements of photos, is dropped when damaged."""
    from molar_retrieval.encoders import checkpoint
    from molar_retrieval.quality.photos import STAMPED, remember, remembered

    workspace, random = Workspace(tmp_path), np.random.default_rng(3)
    model, cache = tmp_path / "model", tmp_path / "weights.json"
    model.mkdir()
    (model / "config.json").write_text("{}")
    right = checkpoint.folder_digest(model, cache)
    records = np.zeros(3, STAMPED)
    records["stamp"], records["measured"]["hash"] = np.arange(1, 4), [b"one", b"two", b"three"]
    remember(workspace, records)
    (photos,) = (tmp_path / "check").iterdir()
    assert len(remembered(workspace)) == 3
    count = rounds(100, 1000)
    for _ in range(count):
        before = flipped(cache, random), flipped(photos, random)
        assert checkpoint.folder_digest(model, cache) == right
        assert remembered(workspace).tobytes() in (b"", records.tobytes())
        cache.write_bytes(before[0])
        photos.write_bytes(before[1])
    measured(f"{2 * count} of {2 * count} harmless")


def test_damage_is_not_certified(tmp_path):
    """A changed byte is not taken for right when a version is only described anew, and goes where its files are."""
    folder, random = tmp_path / "shop", np.random.default_rng(4)
    folder.mkdir()
    names = [f"i{number}" for number in range(30)]
    pq.write_table(pa.table({"item_id": names, "title": names, "n": list(range(30))}), folder / "items.parquet")
    log = pa.table({"user_id": ["u"] * 30, "item_id": names, "timestamp": list(range(30))})
    pq.write_table(log, folder / "interactions.parquet")
    workspace = Workspace.for_catalogue(tmp_path / ".molar", folder)
    prepare_catalogue(folder, workspace)
    prepare_interactions(folder, workspace)
    version, before = workspace["catalogue"].require()
    flipped(version / "items.parquet", random)
    os.utime(folder / "items.parquet")
    after = prepare_catalogue(folder, workspace)
    assert (workspace["catalogue"].require()[0], after.number) == (version, before.number)
    assert module.check_inventory(version, digests=True) == [], "written anew from the files, so mended"
    version, before = workspace["interactions"].require()
    flipped(version / "interactions.parquet", random)
    pq.write_table(pa.table({"item_id": names, "title": names, "n": [0] * 30}), folder / "items.parquet")
    prepare_catalogue(folder, workspace)
    assert prepare_interactions(folder, workspace).inputs != before.inputs, "for a catalogue with the same ids"
    assert module.check_inventory(version, digests=True) == ["interactions.parquet was changed"]
