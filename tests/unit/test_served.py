"""What was answered, and what it took, is on record by process, and adds up."""

import json
import time

import pytest

from molar_retrieval.served import FILE, ServedLog, served_in_all


def test_nothing_is_known_where_nobody_served(tmp_path):
    assert served_in_all(tmp_path) is None


def test_each_answer_is_counted_once_whatever_the_number_of_lines(tmp_path):
    log = ServedLog(tmp_path, processes=2, every=0.02)
    log.start()
    for _ in range(5):
        log.answered()
        time.sleep(0.02)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert len(lines) > 2
    assert sum(line["answers"] for line in lines) == 5
    found = served_in_all(tmp_path)
    assert found is not None
    assert found.answers == 5
    assert found.since == lines[0]["ended"]
    assert found.up == pytest.approx(sum(line["seconds"] for line in lines) / 2)
    rounded = 0.0005 * len(lines)  # seconds are written to the millisecond
    assert found.up >= (5 * 0.02 - rounded) / 2  # of two processes on one machine each counts half


def test_processes_of_several_machines_add_up(tmp_path):
    (tmp_path / FILE).parent.mkdir()
    one = {"ended": "2026-01-01T00:00:00+00:00", "seconds": 600, "processor": 60, "answers": 100, "processes": 2}
    lines = [{**one, "cores": 2}, {**one, "cores": 2}, {**one, "processes": 1, "cores": 4}]
    (tmp_path / FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = served_in_all(tmp_path)
    assert found is not None
    assert (found.answers, found.up, found.busy) == (300, 1200, 75)


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path):
    (tmp_path / "serving").write_text("")
    log = ServedLog(tmp_path, processes=1)
    log.start()
    log.answered()
    log.close()
    assert served_in_all(tmp_path) is None
