"""Ids and their vectors.

Rows of items are places in one catalogue. Here somebody reverses the catalogue, drops an item or brings another log
while a command is at work, at every step of it. Whatever is live then must give each id the vector of its own content.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from copies import copy_workspace

import molar
from molar_indexes.generations import open_generation
from molar_indexes.refresh import publish_generation
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.embedding import embed
from molar_retrieval.errors import DataError, MolarError, StaleArtefactError
from molar_retrieval.models.alignment import align
from molar_retrieval.models.als import factorise, held_out, open_log
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import pin, pin_named
from molar_retrieval.workspace.settings import EmbedSettings, MolarSettings

N, DIM = 40, 6
NAMES = [f"i{n:02d}" for n in range(N)]
_ALIGN = "molar_retrieval.models.alignment"
_REBUILD = "molar_indexes.rebuild"
STEPS = [
    "molar_retrieval.data.prepare_interactions.without_duplicates",
    f"{_ALIGN}.factorise",
    "molar_retrieval.models.als.fit",
    f"{_ALIGN}.sized",
    f"{_ALIGN}.training_data",
    f"{_ALIGN}.hashed_features",
    f"{_ALIGN}.count",
    f"{_ALIGN}.numeric_attributes",
    f"{_ALIGN}.save",
    f"{_ALIGN}.library_versions",
    "molar_indexes.refresh.pin",
    f"{_REBUILD}.open_model",
    f"{_REBUILD}.open_log",
    f"{_REBUILD}.query_maps",
    f"{_REBUILD}.bm25",
    f"{_REBUILD}.publish",
    "molar_indexes.generations.write_users",
    "molar_indexes.generations.library_versions",
]
"""Where somebody else comes in between: before these functions are called."""


def settings(folder):
    flags = {"align": {"preset": "instant", "threads": 1, "device": "cpu"}, "index": {"backend": "exact"}}
    return MolarSettings.load(folder, environ={}, flags=flags)


def write_items(folder, names):
    table = pa.table({"item_id": names, "title": [f"thing {name}" for name in names]})
    pq.write_table(table, folder / "items.new")
    (folder / "items.new").replace(folder / "items.parquet")


def write_log(folder, seed):
    random = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item:02d}", 86_400 * at + user)
        for user in range(30)
        for at, item in enumerate(random.choice(N - 6, 6, replace=False))
    ]
    columns = dict(zip(("user_id", "item_id", "timestamp"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "log.new")
    (folder / "log.new").replace(folder / "interactions.parquet")


def embedded(folder):
    """What `molar embed` does; vectors are told by id, whatever the order of the catalogue."""
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    embed(workspace, EmbedSettings(), vectors=folder / "vectors.parquet")
    return workspace


def aligned(folder):
    """What `molar align` does."""
    workspace, chosen = Workspace.open(folder / ".molar"), settings(folder)
    prepare_interactions(folder, workspace)
    align(workspace, chosen)
    publish_generation(workspace, chosen.index).close()


def reversed_items(folder):
    write_items(folder, pq.read_table(folder / "items.parquet")["item_id"].to_pylist()[::-1])
    embedded(folder)


def fewer_items(folder):
    names = pq.read_table(folder / "items.parquet")["item_id"].to_pylist()
    write_items(folder, [name for name in names if name != NAMES[-1]])
    embedded(folder)


def reversed_with_log(folder):
    reversed_items(folder)
    prepare_interactions(folder, Workspace.open(folder / ".molar"))


def other_log(folder):
    write_log(folder, 1)
    prepare_interactions(folder, Workspace.open(folder / ".molar"))


def reversed_catalogue(folder):
    write_items(folder, pq.read_table(folder / "items.parquet")["item_id"].to_pylist()[::-1])
    prepare_catalogue(folder, Workspace.open(folder / ".molar"))


OTHERS = [reversed_items, reversed_with_log, fewer_items, other_log, reversed_catalogue]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A folder with everything up to a generation, and another one of the reversed catalogue."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("quiet") / "shop"
    folder.mkdir()
    write_items(folder, NAMES)
    write_log(folder, 0)
    vectors = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
    table = pa.table({"item_id": NAMES, "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "vectors.parquet")
    embedded(folder)
    aligned(folder)
    return folder


@pytest.fixture
def place(quiet, tmp_path):
    """Makes copies of the quiet shop."""
    count = iter(range(1_000_000))

    def fresh():
        folder = tmp_path / f"{next(count)}"
        copy_workspace(quiet, folder)
        record = {"format": 1, "catalogue": str(folder.resolve()), "beside": ".."}
        (folder / ".molar" / "workspace.json").write_text(json.dumps(record), "utf-8")
        return folder

    return fresh


def published(folder):
    """The vector ``content`` of each id, and the ids of each user's history, in the live generation."""
    with open_generation(Workspace.open(folder / ".molar")) as generation:
        items = generation.index.fetch(range(len(generation.index)), vectors=["content"])
        ids = {item.row: item.item_id for item in items}
        vectors = {item.item_id: np.asarray(item.vectors["content"]) for item in items}
        people = {u.user_id: [ids[row] for row in u.history] for batch in generation.users.batches(100) for u in batch}
    return vectors, people


def logged(seed, folder):
    write_log(folder, seed)
    table = pq.read_table(folder / "interactions.parquet").sort_by([("timestamp", "ascending")])
    people: dict[str, list[str]] = {}
    for user, item in zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True):
        people.setdefault(user, []).append(item)
    return people


@pytest.fixture(scope="module")
def right(quiet, tmp_path_factory):
    """Says whether what is live gives every id the vector of its own content, and every user their own history."""
    logs = [logged(seed, tmp_path_factory.mktemp("log")) for seed in (0, 1, 2)]
    raw = pq.read_table(quiet / "vectors.parquet")
    own = dict(zip(raw["item_id"].to_pylist(), np.array(raw["vector"].to_pylist()), strict=True))

    def check(folder):
        vectors, people = published(folder)
        # Conditioned vectors are a linear map of an item's own: with far more items than dimensions, those of others
        # would not fit any.
        names = sorted(vectors)
        given = np.stack([own[name] / np.linalg.norm(own[name]) for name in names])
        given = np.column_stack([given, np.ones(len(names))])
        stored = np.stack([vectors[name] for name in names])
        scale = _scales(given, stored)
        return scale < 1e-3 and people in logs

    return check


def _scales(given, stored):
    """How far rows of unit length are from those of a linear map: the smallest error of any, relative.

    Stored rows are ``given @ A`` divided by their lengths, so for each row the part of ``given @ A`` across ``stored``
    is nought: a homogeneous system for A.
    """
    n, d = stored.shape
    across = np.eye(d)[None] - stored[:, :, None] * stored[:, None, :]
    system = np.einsum("ni,njk->njik", given, across).reshape(n * d, given.shape[1] * d)
    values = np.linalg.svd(system, compute_uv=False)
    return values[-1] / values[0]


def between(monkeypatch, step, act):
    """Let somebody act once, before a step is taken."""
    module, name = step.rsplit(".", 1)
    found = importlib.import_module(module)
    if not hasattr(found, name):  # imported where it is used
        found, name = importlib.import_module("molar_retrieval.workspace.resources"), "library_versions"
    original, acted = getattr(found, name), []

    def first(*arguments, **options):
        if not acted:
            acted.append(True)
            with suppress(DataError):  # who is kept out by the lock does nothing
                act()
        return original(*arguments, **options)

    monkeypatch.setattr(found, name, first)
    return acted


def raced(folder, command):
    """How a command ended."""
    try:
        command(folder)
    except (StaleArtefactError, DataError) as error:  # the latter where a file changed while it was read
        return "refused" if "run" in error.hint else f"refused without a remedy: {error}"
    return "done"


def test_another_catalogue_at_every_step(place, right, monkeypatch, rounds, measured):
    """A catalogue, vectors or log that change while `molar align` works never give an id another item's vector."""
    every = [(step, act) for act in OTHERS for step in STEPS]
    some = [(STEPS[n], OTHERS[n % 2]) for n in (6, 10, 13)] + [(STEPS[2], other_log), (STEPS[0], reversed_catalogue)]
    outcomes = {"refused": 0, "done": 0}
    for step, act in some if rounds(0, 1) == 0 else every:
        folder = place()
        write_log(folder, 2)
        with monkeypatch.context() as patch:
            acted = between(patch, step, lambda folder=folder, act=act: act(folder))
            outcomes[how := raced(folder, aligned)] += 1
        assert acted, f"{step} was never reached"
        assert right(folder), (step, act.__name__, how)
        with suppress(StaleArtefactError):  # a catalogue without new vectors needs another command first
            aligned(folder)
        assert right(folder), (step, act.__name__, "again")
        shutil.rmtree(folder)
    measured(f"{outcomes['refused']} refused and {outcomes['done']} right of {sum(outcomes.values())}")


def test_another_catalogue_at_any_moment(place, right, rounds, measured):
    """An `embed` of a reversed catalogue at any moment of `molar align` ends in a refusal or in right vectors."""
    random, refused, count = np.random.default_rng(0), 0, rounds(2, 200)
    for _ in range(count):
        folder = place()
        write_log(folder, 2)
        ended: list[str | BaseException] = []

        def work(folder=folder, ended=ended):
            try:
                ended.append(raced(folder, aligned))
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(random.uniform(0, 0.6))
        reversed_items(folder)
        thread.join()
        assert ended[0] in ("refused", "done"), ended[0]
        refused += ended[0] == "refused"
        assert right(folder)
        shutil.rmtree(folder)
    measured(f"{refused} refused and {count - refused} right of {count}")


def test_a_catalogue_that_changes_after_training_is_told_by_the_command_that_ran(place, right, monkeypatch):
    """A catalogue that is replaced between training and publishing makes `molar align` refuse, with the remedy."""
    folder = place()
    write_log(folder, 2)
    acted = between(monkeypatch, "molar_retrieval.models.refresh.refresh", lambda: reversed_catalogue(folder))
    with pytest.raises(StaleArtefactError) as refused:
        molar.Shop(folder, folder / ".molar").align(preset="instant")
    assert acted
    assert refused.value.hint == "run `molar align` again"
    assert right(folder)


def test_another_process_embeds(place, right, rounds, measured):
    """A process that reverses the catalogue while another one aligns makes that one refuse, with the remedy."""
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join(map(str, [root, root / "cli", root / "indexes", root / "eval"]))
    others = {name: value for name, value in os.environ.items() if not name.startswith("MOLAR_")}
    environment = {**others, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    count, refused = rounds(1, 10), 0
    for _ in range(count):
        folder = place()
        write_log(folder, 2)
        command = [sys.executable, "-c", "from molar_cli.app import main; main()", "align", "--preset", "instant"]
        command += ["--workspace", str(folder / ".molar"), "--threads", "1", "--json"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list((folder / ".molar" / "alignment").glob("*.partial")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        reversed_items(folder)
        told = process.communicate(timeout=120)[1].decode()
        assert process.returncode in (0, 3), told
        if process.returncode:
            refused += 1
            assert "run `molar align` again" in told
        assert right(folder)
    measured(f"{refused} refused and {count - refused} right of {count}")


@pytest.mark.parametrize(
    ("step", "act"),
    [
        ("molar_retrieval.embedding.external._fill", reversed_catalogue),
        ("molar_retrieval.embedding.content_vectors._write_tables", reversed_catalogue),
    ],
)
def test_embedding_for_a_catalogue_that_is_gone(place, monkeypatch, step, act):
    """Vectors are published only for the catalogue that they were made for."""
    folder = place()
    write_items(folder, NAMES[1:])
    acted = between(monkeypatch, step, lambda: act(folder))
    assert raced(folder, embedded) == "refused"
    assert acted
    monkeypatch.undo()
    workspace = embedded(folder)
    assert workspace["content"].require()[1].inputs["catalogue"] == workspace["catalogue"].require()[1].fingerprint


def test_files_that_change_while_they_are_read(place, monkeypatch):
    """A file that somebody writes to while it is read is refused, not taken half and half."""
    folder = place()
    write_items(folder, NAMES[1:])
    between(monkeypatch, "molar_retrieval.data.prepare._facts", lambda: write_items(folder, NAMES[2:]))
    with pytest.raises(MolarError, match=r"items\.parquet .* changed while it was read"):
        embedded(folder)
    monkeypatch.undo()
    write_log(folder, 2)
    between(monkeypatch, "molar_retrieval.data.prepare_interactions.write_tables", lambda: write_log(folder, 3))
    with pytest.raises(MolarError, match=r"interactions\.parquet .* changed while it was read"):
        prepare_interactions(folder, Workspace.open(folder / ".molar"))


def test_artefacts_of_different_catalogues(place, quiet, measured, tmp_path):
    """Vectors, a log and an alignment are never used with a catalogue that they were not made for."""
    from molar_eval.evaluate import Evaluator
    from molar_eval.suite import load
    from molar_retrieval.finetuning.run import finetune

    other = place()
    reversed_items(other)
    aligned(other)
    readers = {
        "catalogue": (open_log, held_with, factored, aligned_only, generation, evaluator(Evaluator, load)),
        "content": (aligned_only, generation, evaluator(Evaluator, load)),
        "interactions": (open_log, held_with, factored, generation, evaluator(Evaluator, load)),
        "alignment": (generation,),
    }
    refused = 0
    for kind, commands in readers.items():
        folder = place()
        shutil.rmtree(folder / ".molar" / kind)
        shutil.copytree(other / ".molar" / kind, folder / ".molar" / kind)
        for command in commands:
            with pytest.raises(StaleArtefactError) as error:
                command(Workspace.open(folder / ".molar"))
            assert "molar" in error.value.hint
            refused += 1
        if kind != "interactions":
            continue
        with pytest.raises(StaleArtefactError):
            finetune(Workspace.open(folder / ".molar"), settings(folder), tmp_path / "encoder")
    measured(f"{refused} of {refused} pairs refused")


def held_with(workspace):
    return held_out(workspace, settings(workspace.root.parent).split)


def factored(workspace):
    return factorise(workspace, settings(workspace.root.parent).als, settings(workspace.root.parent).split)


def aligned_only(workspace):
    return align(workspace, settings(workspace.root.parent))


def generation(workspace):
    return publish_generation(workspace, settings(workspace.root.parent).index)


def evaluator(make, load):
    def open_it(workspace):
        return make(workspace, load("quick"), settings(workspace.root.parent))

    return open_it


def test_pinned_versions_stay(place):
    """What a command has begun to read it reads to its end, and says so where that was removed."""
    folder = place()
    workspace = Workspace.open(folder / ".molar")
    inputs = pin(workspace, "catalogue", "content", optional=("generations",), work="molar align")
    names = inputs.names
    assert set(names) == {"catalogue", "content", "generations"}
    inputs.confirm()
    reversed_items(folder)
    assert {kind: inputs[kind].require()[0].name for kind in names} == names
    assert inputs["catalogue"].manifest == inputs["catalogue"].require()[1]
    with pytest.raises(StaleArtefactError, match="while `molar align` was running") as moved:
        inputs.confirm()
    assert moved.value.hint == "run `molar align` again"
    with pytest.raises(StaleArtefactError, match="while `molar align` was running"), inputs:
        open_log(inputs)
    with pytest.raises(StaleArtefactError, match="unreadable"):
        pin_named(workspace, names, "molar align")


def test_checking_a_catalogue_that_is_gone(place, monkeypatch):
    """`molar check` and `molar finetune` read one catalogue to the end, or say that it was replaced."""
    from molar_retrieval.finetuning.run import finetune
    from molar_retrieval.quality.check import check

    folder = place()
    workspace = Workspace.open(folder / ".molar")
    assert check(folder, workspace, settings(folder), photos=False).items == N
    acted = between(monkeypatch, "molar_retrieval.quality.check.read_items", lambda: reversed_items(folder))
    with pytest.raises(StaleArtefactError, match="while `molar check` was running"):
        check(folder, workspace, settings(folder), photos=False)
    assert acted
    prepare_interactions(folder, workspace)
    acted = between(monkeypatch, "molar_retrieval.finetuning.run.held_out", lambda: reversed_items(folder))
    with pytest.raises(StaleArtefactError, match="while `molar finetune` was running"):
        finetune(workspace, settings(folder), folder / "encoder")
    assert acted
