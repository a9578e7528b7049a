"""What work and memory follow from.

Shapes of a few kilobytes that used to cost gigabytes and minutes. Limits are of counted work or of the process's own
time, so that they hold on a busy machine.
"""

import resource
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eval_model_tasks import log_of
from hostile_tables import Way, write_items

from molar_retrieval.errors import DataError
from molar_retrieval.models import item_item, validation
from molar_retrieval.models.base import fit_count_models


def _shop(folder, users, items, n_items):
    write_items(folder, n_items)
    log = {"user_id": [f"u{k}" for k in users], "item_id": [f"i{k}" for k in items], "timestamp": range(len(users))}
    pq.write_table(pa.table({name: pa.array(values) for name, values in log.items()}), folder / "interactions.parquet")
    return Way(folder)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def test_few_users_with_thousands_of_items_each(tmp_path, rounds, measured):
    """Five users with 20,000 items each are counted within a minute and 2 GB: no matrix of items is inverted."""
    n = rounds(2_500, 20_000)
    random = np.random.default_rng(0)
    users, items = np.repeat(np.arange(5), n), np.concatenate([random.permutation(n) for _ in range(5)])
    way, before, began = _shop(tmp_path / "shop", users, items, n), _peak(), time.process_time()
    way.catalogue()
    way.log()
    report = way.instant()
    seconds, grown = time.process_time() - began, _peak() - before
    assert all("was not tried" in report.facts["models"][name]["note"] for name in ("sequential", "item_knn"))
    assert seconds < 60
    assert grown < 2
    measured(f"{n:,} items: {seconds:.1f} s, {grown:.1f} GB")


@pytest.mark.parametrize(("users", "items"), [(50_000, 1), (200_000, 2)], ids=["one item has all", "two items"])
def test_logs_of_few_items(tmp_path, rounds, users, items):
    """A log in which one or two items have all interactions of many users still has finite factors."""
    if items == 2 and rounds(0, 1) == 0:
        pytest.skip("takes 15 seconds: MOLAR_ATTACKS=full")
    way = _shop(tmp_path / "shop", np.arange(users), np.arange(users) % items, 1_000 if items == 1 else 2)
    way.catalogue()
    way.log()
    began = time.process_time()
    way.factors()
    assert time.process_time() - began < 60


def test_pairs_of_endless_histories_are_not_all_counted(monkeypatch):
    """Pairs within one history are counted in its latest part only, where they would be a hundred thousand millions."""
    log = log_of([list(range(30)), [1, 2, 3]], 30)
    assert item_item.countable(log) is log
    monkeypatch.setattr(item_item, "LONGEST", 8)
    short = item_item.countable(log)
    assert [short.history(user).tolist() for user in (0, 1)] == [list(range(22, 30)), [1, 2, 3]]
    monkeypatch.setattr(item_item, "PAIRS", 30)
    assert [len(item_item.countable(log).history(user)) for user in (0, 1)] == [4, 3]
    (linear,), _ = fit_count_models(log, lambda _: 0.0, 5, ["ease"])
    assert linear.weights.nnz
    assert not linear.weights[4:22].nnz


def test_endless_histories_of_made_up_newcomers(monkeypatch):
    """Cases of made-up newcomers are fewer where their histories together would fill memory."""
    log = log_of([list(range(100)) for _ in range(4)], 100)
    withheld = np.ones(100, bool)
    every = validation.taken(log, withheld, 0)
    assert len(every) == 4 * 99
    monkeypatch.setattr(validation, "_MOST_READ", 2_000)
    fewer = validation.taken(log, withheld, 0)
    assert 0 < len(fewer.log) < 3_000
    assert len(np.unique(fewer.log.offsets)) > 1


def _wide(folder, columns):
    words = [["red", "blue", "green"][k % 3] for k in range(30)]
    write_items(folder, **{f"c{k}": words for k in range(columns)})
    return Way(folder)


def test_thousands_of_columns(tmp_path, rounds, measured):
    """Thirty rows of 10,000 columns of words are read and checked in seconds: time follows the number of columns."""
    columns = rounds(1_500, 9_998)
    way, began = _wide(tmp_path / "shop", columns), time.process_time()
    way.catalogue()
    assert not way.check().unusable
    seconds = time.process_time() - began
    assert seconds < columns / 200
    measured(f"{columns:,} columns: {seconds:.1f} s")


def test_more_columns_than_are_read(tmp_path):
    """A table of more than 10,000 columns is refused before a row is read."""
    way = _wide(tmp_path / "shop", 10_000)
    with pytest.raises(DataError, match="10,002 columns; 10,000 are the most"):
        way.catalogue()


@pytest.mark.parametrize("text", ["a" + "\u0301\u0316" * 60_000, "1 " * 200_000], ids=["marks", "digits"])
def test_texts_that_take_searches_ages(tmp_path, text):
    """Texts of one sign again and again are cleaned and checked in seconds."""
    write_items(tmp_path / "shop", 3, description=[text, text, "x"], note=[text, "y", "x"])
    way, began = Way(tmp_path / "shop"), time.process_time()
    way.catalogue()
    way.check()
    assert time.process_time() - began < 4


def test_thousands_of_values_that_could_be_slips(tmp_path, rounds):
    """Slips among thousands of spellings of an attribute are found without comparing each with each."""
    many = rounds(10_000, 45_000)
    letters = str.maketrans("0123456789", "abcdefghij")
    common = ["z" * 6 + str(k).zfill(5).translate(letters) for k in range(2_000)] * 20
    rare = ["z" * 5 + "x" + str(k).zfill(5)[::-1].translate(letters) for k in range(many)]
    write_items(tmp_path / "shop", len(common + rare), brand=common + rare)
    way, began = Way(tmp_path / "shop"), time.process_time()
    way.check()
    assert time.process_time() - began < rounds(5, 20)
