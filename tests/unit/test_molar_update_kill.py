"""``kill -9`` within `molar update`: the live generation answers, and the next update ends as if nothing had been."""

import os
import random
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from copies import copy_workspace
from updates import Days

import molar
from molar_indexes.generations import open_generation
from molar_indexes.verify import verify
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace

KILLS = int(os.environ.get("MOLAR_TEST_KILLS", "2"))
TESTS = Path(__file__).resolve().parents[1]
KINDS = ("catalogue", "content", "interactions", "alignment")


def child(warm, shop, workspace, last):
    """Run an update that kills itself at its n-th change of the disk; whether it was killed, and what it told."""
    done = warm.run(TESTS / "update_kill_child.py", shop, workspace, last, cwd=TESTS)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0, done.stdout


def outcome(root):
    """All that an update leaves, but for names and times: versions of each kind, files of the live generation."""
    place, live = Workspace(root), Workspace(root)["generations"].current
    assert not [folder for kind in (*KINDS, "generations") for folder in place[kind].partials()]
    assert [len(place[kind].versions()) for kind in KINDS] == [1] * len(KINDS)
    with open_generation(place) as generation:
        assert verify(generation, deep=True) == []
    files = {name: fingerprint.of_file(live / name) for name in ("table.safetensors", "popular.json")}
    model = fingerprint.of_file(place["alignment"].current / "model.safetensors")
    return {kind: place[kind].pointer for kind in KINDS} | files | {"model": model}


def answers(shop, workspace):
    return [
        [item.item_id for item in molar.Shop(shop, workspace).query(user, k=10, explore=False).items]
        for user in ("u0001", "u0004")
    ]


@pytest.mark.slow
def test_killed_anywhere(trained, warm, tmp_path):
    days = Days(trained, tmp_path)
    before = answers(days.folder, days.workspace.root)
    days.items(lambda table: pd.concat([table.iloc[[5]].assign(item_id="new-1", title="Garden gnome"), table[:-1]]))
    days.buy(("u0001", before[0][0]), ("u0002", "new-1"), ("newbody", before[0][0]))
    copy_workspace(days.workspace.root, tmp_path / "undisturbed")
    killed, told = child(warm, days.folder, tmp_path / "undisturbed", 0)
    assert not killed
    whole, after = outcome(tmp_path / "undisturbed"), answers(days.folder, tmp_path / "undisturbed")
    assert before != after
    dice, total = random.Random(11), int(told)
    for number in range(KILLS):
        root = tmp_path / f"killed-{number}"
        copy_workspace(days.workspace.root, root)
        last = dice.randint(1 + total * number // KILLS, total * (number + 1) // KILLS)
        killed, _ = child(warm, days.folder, root, last)
        assert killed
        assert answers(days.folder, root) in (before, after)
        molar.Shop(days.folder, root).update()
        assert outcome(root) == whole, f"killed at change {last} of {total}"
        assert answers(days.folder, root) == after
        assert molar.Shop(days.folder, root).update().up_to_date
        shutil.rmtree(root)
