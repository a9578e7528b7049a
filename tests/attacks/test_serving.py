"""Serving while others publish."""

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from molar_indexes.generations import open_generation, rollback
from molar_indexes.recommender import Recommender
from molar_indexes.refresh import publish_generation
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.settings import IndexSettings

Answers = dict[str, list[list[object]]]


def ask(recommender: Recommender, user: str) -> Answers:
    """What four ways of asking answer, a session first: its encoder is opened late."""
    items = [item.item_id for item in recommender.query(user).items]
    found = {
        "session": recommender.query(session=items[:3]),
        "user": recommender.query(user),
        "similar": recommender.similar(items[0]),
        "search": recommender.search("red shoes"),
    }
    assert {answer.generation for answer in found.values()} == {recommender.generation.name}
    return {kind: [[i.item_id, round(i.score, 4)] for i in answer.items] for kind, answer in found.items()}


def realign(workspace: Workspace, mark: int) -> None:
    """Publish another alignment, of the same shape, with numbers of its own."""
    from safetensors.numpy import load_file, save_file

    folder, manifest = workspace["alignment"].require()
    rng, store = np.random.default_rng(mark), workspace["alignment"]
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if name.startswith("network.") and tensor.dtype == np.float32:
            tensors[name] = tensor + rng.normal(scale=0.5, size=tensor.shape).astype(np.float32)
    partial = store.partial(f"mark{mark}")
    save_file(tensors, partial / "model.safetensors")
    store.publish(partial, Manifest("alignment", f"mark{mark}", manifest.inputs, manifest.settings, manifest.facts))


def read(root: Path, user: str, stop: Callable[[], bool], stay: int) -> tuple[int, dict[str, Answers], list[str]]:
    """Open and ask until it is enough; every generation stays open for so many rounds.

    Returns:
        How many rounds there were, what each generation answered, and what went wrong.
    """
    rounds, known, errors = 0, {}, []
    while not stop():
        try:
            with Recommender.open(root, follow=False) as recommender:
                for _ in range(stay):
                    answers = ask(recommender, user)
                    if known.setdefault(recommender.generation.name, answers) != answers:
                        errors.append(f"{recommender.generation.name} answers in two ways")
        except Exception as error:
            errors.append(repr(error))
        rounds += 1
    return rounds, known, errors


def child(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that can import this file."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", head + program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


READER = """
import json
from pathlib import Path
from test_serving import read
root, user, stop, stay = sys.argv[1:]
print("ready", flush=True)
print(json.dumps(read(Path(root), user, Path(stop).exists, int(stay))), flush=True)
"""


def test_a_session_is_read_as_its_generation_was_made(shop, measured):
    """A session is read by its generation's encoder, after a new alignment and after a rollback."""
    workspace = Workspace.open(shop.workspace)
    with Recommender.open(shop.workspace) as recommender:
        first = ask(recommender, shop.user)
    realign(workspace, 1)
    with Recommender.open(shop.workspace) as recommender:
        assert ask(recommender, shop.user) == first
    publish_generation(workspace, IndexSettings(backend="exact")).close()
    with Recommender.open(shop.workspace) as recommender:
        assert ask(recommender, shop.user)["session"] != first["session"]
    rollback(workspace)
    with Recommender.open(shop.workspace) as recommender:
        assert ask(recommender, shop.user) == first
    measured("the same answer at 2 of 2 moments")


def test_readers_never_notice_a_publication(shop, rounds, measured, tmp_path):
    """Readers of all kinds see no error and no mixed answer while generations come and go, and nothing stays behind."""
    workspace, stop = Workspace.open(shop.workspace), tmp_path / "stop"
    processes = [child(READER, str(shop.workspace), shop.user, str(stop), str(n)) for n in range(1, rounds(2, 4))]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    found: list[tuple[int, dict[str, Answers], list[str]]] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(read(shop.workspace, shop.user, stop.exists, n)))
        for n in range(1, rounds(2, 3))
    ]
    truth: dict[str, Answers] = {}
    try:
        for thread in threads:
            thread.start()
        for mark in range(rounds(2, 50)):
            with open_generation(workspace) as live, Recommender(workspace, live) as recommender:
                truth[live.name] = ask(recommender, shop.user)
            realign(workspace, mark)
            publish_generation(workspace, IndexSettings(keep=0, backend=("exact", "edge")[mark % 2])).close()
    finally:
        stop.touch()
        for thread in threads:
            thread.join()
    for process in processes:
        out, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        found.append(json.loads(out))
    with open_generation(workspace) as live, Recommender(workspace, live) as recommender:
        truth[live.name] = ask(recommender, shop.user)
    assert len({json.dumps(answers) for answers in truth.values()}) == len(truth)
    assert [error for _, _, errors in found for error in errors] == []
    for _, known, _ in found:
        assert known == {name: truth[name] for name in known}
    assert all(count > 1 for count, _, _ in found)
    realign(workspace, 99)
    with publish_generation(workspace, IndexSettings(keep=0, backend="exact")) as last:
        assert {path.name for path in last.folder.parent.iterdir()} == {last.name, "current", "lock"}
    asked = sum(count for count, _, _ in found)
    measured(f"{len(truth) - 1} publications, {len(found)} readers, {asked} openings: 0 errors, 0 mixed, 0 left")


def test_reopening_leaves_no_file_open(shop, rounds, measured):
    """However often a generation is opened anew, no more files are open than before."""
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("the system has no /proc")
    counts = []
    for _ in range(rounds(4, 50)):
        with Recommender.open(shop.workspace) as recommender:
            ask(recommender, shop.user)
        del recommender
        gc.collect()  # files of other tests may close meanwhile
        counts.append(sum(1 for _ in files.iterdir()))
    assert len(set(counts[1:])) == 1
    measured(f"{counts[-1]} files after {len(counts)} openings, {counts[1]} after the second")
