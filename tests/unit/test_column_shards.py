"""Counting in shards: whoever does it, partners are those of one process in memory, and files the same bytes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eval_model_tasks import log_of
from mapped import is_mapped
from scipy.sparse import csc_matrix, csr_matrix
from shard_jobs import Killing, Stopping

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.experts import block_ease, linear, taken
from molar_retrieval.experts.block_ease import OWN, BlockEASE
from molar_retrieval.experts.column_blocks import FollowedInBlocks
from molar_retrieval.experts.column_shards import Counting
from molar_retrieval.experts.company import FewPairs
from molar_retrieval.experts.taken import Taken
from molar_retrieval.progress import Notes
from molar_retrieval.workspace.jobs import ProcessRunner, SerialRunner

ITEMS = 40
Counted = Callable[[Interactions, Counting | None], csr_matrix]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Interactions:
    """A weighted log that has too many pairs to be counted at once, in small blocks."""
    monkeypatch.setattr(taken, "MOST_PAIRS", 100)
    monkeypatch.setattr(taken, "PAIRS_OF_BLOCK", 500)
    monkeypatch.setattr(block_ease, "_AT_ONCE", 4)
    random = np.random.default_rng(3)
    histories = [(ITEMS * random.random(n) ** 2).astype(int).tolist() for n in random.integers(0, 25, 120)]
    log = log_of(histories, ITEMS + 2)  # nobody took the last two
    some = random.random(len(log)).astype(np.float32)
    return replace(log, strength=some, weight=some)


def sequence(log: Interactions, counting: Counting | None, least: int = 1) -> csr_matrix:
    return FollowedInBlocks(log, 7, 0.83, 0.3).strongest(20, least == 1, 6, FewPairs.of(log, least), counting)


def regression(log: Interactions, counting: Counting | None, least: int = 1) -> csr_matrix:
    return BlockEASE.of(Taken.of(log), 2 * OWN).weights(5.0, 6, least, counting)


def neighbours(log: Interactions, counting: Counting | None) -> csr_matrix:
    return linear.item_knn(log, "tfidf", 20, 5, counting)


def of_few(counted: Callable[..., csr_matrix]) -> Counted:
    return lambda log, counting: counted(log, counting, 3)


WORKS = {
    "sequence": sequence, "sequence of few": of_few(sequence), "EASE": regression, "EASE of few": of_few(regression),
    "neighbours": neighbours,
}  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def same(one: csr_matrix, other: csr_matrix) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and (one != other).nnz == 0


@pytest.mark.parametrize("counted", WORKS.values(), ids=WORKS)
def test_partners_are_those_of_one_process(counted: Counted, log: Interactions, tmp_path: Path) -> None:
    alone = counted(log, None)
    assert alone.nnz
    assert same(counted(log, Counting(tmp_path, SerialRunner())), alone)
    assert len(files(tmp_path)) > 4


def test_processes_write_the_same_files_though_one_is_killed(log: Interactions, tmp_path: Path) -> None:
    alone, several = tmp_path / "alone", tmp_path / "several"
    made = regression(log, Counting(alone, SerialRunner()))
    assert same(regression(log, Counting(several, Killing(ProcessRunner(2), tmp_path))), made)
    assert files(several) == files(alone)
    assert len(files(alone)) > 4


def test_what_was_made_before_an_interruption_is_not_made_again(log: Interactions, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sequence(log, Counting(tmp_path, Stopping(3)))
    before, notes = files(tmp_path), Notes()
    torn = next(tmp_path.rglob("00000001.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-1])
    made = sequence(log, Counting(tmp_path, SerialRunner(), notes))
    total = len(FollowedInBlocks(log, 7, 0.83).blocks)
    assert notes.notes == [f"going on with an interrupted run: 2 of {total} shards are there"]
    assert same(made, sequence(log, None))
    assert files(tmp_path).items() >= before.items()


def test_other_data_or_settings_find_nothing(log: Interactions, tmp_path: Path) -> None:
    counting = Counting(tmp_path, SerialRunner())
    sequence(log, counting)
    for other in (log.select(np.arange(len(log)) > 0), replace(log, strength=None)):
        assert same(sequence(other, counting), sequence(other, None))
    assert same(FollowedInBlocks(log, 7, 0.5, 0.3).strongest(20, True, 6, None, counting),
                FollowedInBlocks(log, 7, 0.5, 0.3).strongest(20, True, 6))  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 4


def test_nobody_took_anything(tmp_path: Path) -> None:
    empty = log_of([[], []], 4)
    counting = Counting(tmp_path, SerialRunner())
    assert sequence(empty, counting).nnz == regression(empty, counting).nnz == 0


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_columns_that_come_in_any_order_make_one_matrix(tmp_path: Path, monkeypatch, outside, whole) -> None:
    monkeypatch.setattr(taken, "_AT_ONCE", 7)
    random = np.random.default_rng(5)
    matrix = csc_matrix((random.random((30, 30)) * (random.random((30, 30)) < 0.3)).astype(np.float32))
    items = random.permutation(30)[: 30 if whole else 22]
    missing = np.setdiff1d(np.arange(30), items)
    expected = matrix.toarray()
    expected[:, missing] = 0
    folder = tmp_path if outside else None

    def parts(order):
        return ((some, matrix[:, some]) for some in np.array_split(order, 4))

    by_rows = taken.by_rows(parts(items), 30, folder)
    assert np.array_equal(by_rows.toarray(), expected)
    assert csr_matrix((by_rows.data, by_rows.indices, by_rows.indptr), by_rows.shape).has_sorted_indices
    columns = taken.side_by_side(parts(np.sort(items)), 30, folder)
    assert np.array_equal(columns.toarray(), expected)
    assert is_mapped(columns.data) == outside
    assert list(tmp_path.iterdir()) == []
