"""Threads of BLAS while something is answered."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from molar_indexes.recommender import Recommender
from molar_retrieval.workspace.threads import one_thread


def told() -> set[int]:
    """How many threads the libraries are told to use."""
    return {library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, "blas"):
        yield


def test_one_thread_inside_and_as_many_as_before_afterwards():
    with one_thread():
        assert told() == {1}
        with one_thread():
            assert told() == {1}
        assert told() == {1}
    assert told() == {2}


def test_an_error_inside_gives_the_threads_back():
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert told() == {2}


def test_another_thread_changes_nothing():
    found = []

    def other() -> None:
        with one_thread():
            found.append(told())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [{2}]
    assert told() == {2}


def test_a_recommender_answers_by_one_thread(trained):
    with Recommender.open(trained.workspace) as recommender:
        asked = []
        real = recommender.ranker.ranked

        def ranked(*given):
            asked.append(told())
            return real(*given)

        recommender.ranker.ranked = ranked
        assert recommender.query(trained.user).items
    assert asked == [{1}]
    assert told() == {2}


def test_what_is_loaded_after_the_first_answer_is_told_as_well():
    code = """if True:
        from molar_retrieval.workspace.threads import one_thread
        with one_thread():
            import numpy
        from threadpoolctl import ThreadpoolController
        with one_thread():
            print({one["num_threads"] for one in ThreadpoolController().info() if one["user_api"] == "blas"})
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "{1}\n"
