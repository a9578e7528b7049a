"""Forecasts of memory: what one more interaction takes, against processes that are measured; what is said of it."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval import memory
from molar_retrieval.catalog import prepare_catalogue
from molar_retrieval.config import MolarSettings
from molar_retrieval.experts import fit, linear, taken
from molar_retrieval.interactions import prepare_interactions
from molar_retrieval.memory import Sizes
from molar_retrieval.ranking import candidates
from molar_retrieval.workspace import Workspace

CHILD = Path(__file__).parents[1] / "memory_child.py"
FEW, MANY = 300_000, 2_500_000
PEOPLE, ITEMS = 5_000, 2_000


def catalogue(folder, count, n_people=PEOPLE, n_items=ITEMS):
    random = np.random.default_rng(0)
    ids, people = ([f"{kind} {number}" for number in range(n)] for kind, n in (("item", n_items), ("person", n_people)))
    columns = {
        "user_id": pa.array(people).take(pa.array(random.integers(0, n_people, count))),
        "item_id": pa.array(ids).take(pa.array(random.integers(0, n_items, count))),
        "timestamp": random.integers(1_000_000_000, 1_500_000_000, count),
    }
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "interactions.parquet", row_group_size=1 << 15)
    pq.write_table(pa.table({"item_id": ids, "title": ids}), folder / "items.parquet")
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    return folder


def peak(stage, folder):
    # Arrays are given back at once, as large ones always are.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, CHILD, stage, folder]
    return int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


def peak_of_log(folder):
    """The lower one of two runs, as readers that are ahead by chance take more, and nothing takes less."""
    peaks = []
    for _ in range(2):
        shutil.rmtree(folder / ".molar" / "interactions", ignore_errors=True)
        peaks.append(peak("log", folder))
    return min(peaks)


def forecast(stage):
    return (memory.peaks(Sizes(count, PEOPLE, ITEMS))[stage] for count in (FEW, MANY))


def more(least, most):
    """Bytes of one more interaction."""
    return (most - least) / (MANY - FEW)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_one_more_interaction_takes_as_much_as_is_forecast(tmp_path):
    folders = catalogue(tmp_path / "small", FEW), catalogue(tmp_path / "large", MANY)
    least, most = map(peak_of_log, folders)
    assert more(least, most) == pytest.approx(more(*forecast(memory.LOG)), rel=0.25)
    least, most = (peak("factors", folder) for folder in folders)
    assert more(least, most) == pytest.approx(more(*forecast(memory.FACTORS)), rel=0.25)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_counting_takes_as_much_as_is_forecast(tmp_path):
    """More than a third of it are matrices of items by items here."""
    folder = catalogue(tmp_path / "shop", 20_000, 400, 3_500)
    prepare_interactions(folder, Workspace.for_catalogue(folder / ".molar", folder))
    assert peak("counting", folder) == pytest.approx(memory.peaks(Sizes(20_000, 400, 3_500))[memory.COUNTING], rel=0.25)


def test_the_forecast_knows_when_something_else_is_done():
    of_matrices = memory.MOST_IN_A_MATRIX, memory.OF_A_PERSON, memory.ALWAYS_IN_ONE
    assert of_matrices == (linear.MAX_ITEMS, linear.ITEMS_PER_USER, linear.SMALL)
    assert memory.MOST_PAIRS == taken.MOST_PAIRS
    assert memory.SCANNED == candidates.MOST_SCANNED
    assert max(setting["window"] for setting in fit.COUNTS) == memory.WINDOW


def test_counting_in_blocks_takes_no_more_for_more_pairs():
    few, many = (memory.peaks(Sizes(count, count // 50, 30_000)) for count in (6_000_000, 7_000_000))
    assert many[memory.COUNTING] - few[memory.COUNTING] < 100e6


def test_pages_of_mapped_files_are_no_reason_to_warn():
    sizes = Sizes(3_000_000, 300_000, 400_000, width=0)
    taken = memory.peaks(sizes)
    others = max(taken[stage] for stage in taken if stage != memory.PUBLISHING)
    assert others < 8_000_000_000 < taken[memory.PUBLISHING]
    assert memory.warning(sizes, 8_000_000_000) is None


def test_sizes_follow_from_the_settings():
    small, large = (Sizes.of(MolarSettings(), count, 10, 20) for count in (1000, 10_000_000))
    assert (small.width, large.width, large.factors, large.features) == (64, 128, 64, 768)
    counted = MolarSettings.model_validate({"align": {"preset": "instant"}, "cf": {"factors": 32}})
    assert memory.TOWERS not in memory.peaks(Sizes.of(counted, 10, 10, 10))
    assert Sizes.of(counted, 10, 10, 10).factors == 32


def test_what_is_beyond_the_machine_is_said_with_the_stage():
    sizes = Sizes(1_000_000_000, 10_000_000, 1_000_000)
    assert memory.warning(sizes, max(memory.peaks(sizes).values())) is None
    assert memory.warning(sizes, 0) is None, "where nobody knows how much there is"
    name = max(memory.peaks(sizes), key=memory.peaks(sizes).get)
    assert memory.warning(sizes, 8_000_000_000).startswith(f"{name} takes about ")
    assert "this machine has 8.0 GB" in memory.sentence(sizes, 8_000_000_000)
    assert "this machine" not in memory.sentence(replace(sizes, interactions=1), 0)
