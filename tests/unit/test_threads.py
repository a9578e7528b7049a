"""Pieces of work in threads."""

import threading
import time

import pytest
from threadpoolctl import threadpool_limits

from molar_retrieval.workspace import threads


def test_results_come_in_the_order_of_the_pieces_and_from_several_threads(monkeypatch):
    monkeypatch.setattr(threads, "allowed", lambda: 3)
    together = threading.Barrier(3, timeout=10)

    def work(number):
        together.wait()
        time.sleep(0.02 * (number % 3 == 0))  # the first is the last to end
        return number, threading.get_ident()

    found = list(threads.each(work, range(6)))
    assert [number for number, _ in found] == list(range(6))
    assert len({thread for _, thread in found}) == 3


def test_where_blas_has_one_thread_nothing_leaves_it():
    with threadpool_limits(limits=1, user_api="blas"):
        assert threads.allowed() == 1
        assert set(threads.each(lambda _: threading.get_ident(), range(5))) == {threading.get_ident()}
    assert list(threads.each(str, [])) == []


def test_an_error_of_a_piece_comes_up(monkeypatch):
    monkeypatch.setattr(threads, "allowed", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        list(threads.each(lambda number: 1 // number, [1, 0, 2]))
