"""Positive definite systems: whole and in blocks, against SciPy; of a size at which OpenBLAS overruns its buffer."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from molar_retrieval import cholesky

ROOT = Path(__file__).parents[2]
EXACT = {np.float32: 2e-4, np.float64: 1e-10}


def system(n, k, number, seed):
    """A positive definite matrix and what is right of it."""
    random = np.random.default_rng(seed)
    half = random.normal(size=(n, 2 * n))
    return (half @ half.T / n + np.eye(n)).astype(number), random.normal(size=(n, k)).astype(number)


@given(
    n=st.integers(1, 40),
    k=st.integers(1, 12),
    number=st.sampled_from([np.float32, np.float64]),
    block=st.sampled_from([None, 1, 7, 16, 64]),
    seed=st.integers(0, 99),
)
def test_all_ways_agree_with_scipy(n, k, number, block, seed):
    matrix, right = system(n, k, number, seed)
    expected = scipy.linalg.solve(matrix.astype(np.float64), right.astype(np.float64), assume_a="pos")
    close = {"rtol": EXACT[number], "atol": EXACT[number]}
    before = right.copy()
    found = cholesky.solve(matrix.copy(), right, block=block)
    assert found.dtype == number
    np.testing.assert_allclose(found, expected, **close)
    inverse = cholesky.inverse(np.array(matrix, order="F"), block=block)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix.astype(np.float64)), **close)
    form = cholesky.quadratic_form(matrix.copy(), np.array(right, order="F"), block=block)
    np.testing.assert_allclose(form, right.T @ expected, rtol=EXACT[number], atol=20 * EXACT[number])
    for symmetric in (inverse, form):
        np.testing.assert_array_equal(symmetric, symmetric.T)
    np.testing.assert_array_equal(right, before)


@pytest.mark.parametrize("block", [None, 7])
def test_a_matrix_that_is_not_positive_definite_is_an_error(block):
    matrix, right = system(30, 2, np.float64, 0)
    matrix[20, 20] = -1
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        cholesky.solve(matrix, right, block=block)


def test_no_other_module_factorises_by_scipy():
    """Each would have to know from which size on OpenBLAS's work buffer is too small."""
    packages = ("molar_retrieval", "cli", "indexes", "eval", "serving")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    assert [file.name for file in files if "scipy.linalg import" in file.read_text("utf-8")] == ["cholesky.py"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MOLAR_TEST_FULL"), reason="takes 5 GB and minutes: `make test-full`")
@pytest.mark.parametrize("number", ["float32", "float64"])
def test_17000_items_by_two_threads_neither_crash_nor_write_beside_the_buffer(number):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    child = Path(__file__).parents[1] / "cholesky_child.py"
    run = subprocess.run(
        [sys.executable, child, number, "17000"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout) < (1e-4 if number == "float32" else 1e-10)
