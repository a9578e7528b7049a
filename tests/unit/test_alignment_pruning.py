"""The content tower is spared where the sum is as good without it, and only where that may be asked."""

from dataclasses import replace

import numpy as np
import pytest
from alignment_tasks import random_cases

from molar_retrieval.models import pruning
from molar_retrieval.models.als import ALSFactors
from molar_retrieval.models.blending import Dense
from molar_retrieval.models.pruning import TowerPruning
from molar_retrieval.models.towers.training import TrainingData
from molar_retrieval.workspace.settings import AlignSettings

COUNT, ITEMS = 1000, 60
NOTHING = np.zeros((0, 0), np.float32)


class Counted:
    """Experts that have one part."""

    def __init__(self, part):
        self.part = part

    def parts(self, cases):
        return {"sequential": self.part}


def part_of(cases, signal, seed):
    """Noise plus a signal at the target."""
    scores = np.random.default_rng(seed).normal(size=(len(cases), ITEMS)).astype(np.float32)
    scores[np.arange(len(cases)), cases.targets] += signal
    return Dense(scores, np.eye(ITEMS, dtype=np.float32))


@pytest.fixture(scope="module")
def cases():
    made = random_cases(COUNT, ITEMS, 1)
    return replace(made, candidates=np.ones(ITEMS, bool))


def probed(cases, content, monkeypatch, *, known=1.0, towers=("id_tower", "content_tower"), other=2.0):
    data = TrainingData(cases.log, cases, NOTHING, ALSFactors(NOTHING, NOTHING))
    warm = np.arange(ITEMS) < known * ITEMS
    monkeypatch.setattr(TrainingData, "warm", property(lambda _: warm))
    signals = {"id_tower": other, "content_tower": content}
    parts = {name: part_of(cases, signals[name], number) for number, name in enumerate(towers)}
    asked = []

    def counted():
        asked.append(1)
        return Counted(part_of(cases, 2.0, 7))

    return TowerPruning(data, AlignSettings(), counted)(parts), bool(asked)


def test_a_tower_that_tells_nothing_is_spared_with_what_it_brings(cases, monkeypatch):
    found, asked = probed(cases, -0.5, monkeypatch)
    assert asked
    assert list(found) == ["content_tower"]
    assert found["content_tower"].value <= found["content_tower"].error


def test_a_tower_that_tells_more_is_trained_on(cases, monkeypatch):
    assert probed(cases, 2.0, monkeypatch) == ({}, True)


def test_where_the_other_tower_has_no_weight_either_nothing_is_told_yet(cases, monkeypatch):
    assert probed(cases, -0.5, monkeypatch, other=-0.5) == ({}, True)


def test_it_is_not_asked_where_newcomers_need_it_or_nothing_could_be_told(cases, monkeypatch):
    assert probed(cases, -0.5, monkeypatch, known=0.9) == ({}, False)
    assert probed(cases.select(np.arange(COUNT - 1)), -0.5, monkeypatch) == ({}, False)
    assert probed(cases, -0.5, monkeypatch, towers=("content_tower",)) == ({}, False)
    monkeypatch.setattr(pruning, "_MOST_ITEMS", ITEMS - 1)
    assert probed(cases, -0.5, monkeypatch) == ({}, False)
