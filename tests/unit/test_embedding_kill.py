"""``kill -9`` at random moments: at most the batch in flight is lost, and the vectors end up the same bit by bit."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from embedding_fakes import FakeEncoder, Shop, run

from molar_retrieval.workspace.artefacts import Workspace

ROUNDS = int(os.environ.get("MOLAR_TEST_KILLS", 8))
BATCH = 8
TESTS = Path(__file__).resolve().parents[1]


class Child:
    """A run in a process of its own."""

    def __init__(self, workspace: Path, log: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "embedding_kill_child.py", workspace, log, str(BATCH)],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def kill_after(self, seconds: float) -> bool:
        """Whether it was still running."""
        time.sleep(seconds)
        self.process.send_signal(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode in {0, -signal.SIGKILL}, errors.decode()
        return self.process.returncode


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    shop = Shop(tmp_path, n=200)
    shop.prepare()
    undisturbed_log = tmp_path / "undisturbed.log"
    run(shop.workspace, FakeEncoder(log=undisturbed_log, dim=256), batch_size=BATCH)
    undisturbed = shop.vectors_file()
    batches = Counter(undisturbed_log.read_text().split())
    assert len(batches) == 25
    dice, kills, finished = random.Random(5), 0, 0
    while kills < ROUNDS:
        workspace, log = tmp_path / f"ws{finished}", tmp_path / f"log{finished}"
        again = Shop.__new__(Shop)
        again.__dict__.update(shop.__dict__, workspace=Workspace.for_catalogue(workspace, shop.folder))
        again.prepare()
        here = 0
        # A busy machine gets further only if it is given more and more time.
        while Child(workspace, log).kill_after(dice.uniform(0.0, 0.25 + 0.02 * here)):
            here += 1
        kills += here
        finished += 1
        assert again.vectors_file() == undisturbed
        encoded = Counter(log.read_text().split())
        assert set(encoded) == set(batches), "a batch of another composition was encoded"
        repeated = sum(encoded.values()) - len(batches)
        assert repeated <= here, f"{repeated} batches were repeated after {here} kills"
        assert again.workspace["content"].partials() == []
