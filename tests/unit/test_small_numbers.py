"""With ``[privacy] min_users`` nothing that is counted and published rests on fewer people."""

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_model_tasks import log_of
from safetensors.numpy import load_file
from updates import Days

from molar_retrieval.models.base import (
    COUNTS,
    EASE,
    EASE_MODEL,
    ITEM_KNN,
    NEIGHBOURS,
    REGRESSIONS,
    SEQUENTIAL,
    ease,
    fit_count_models,
    item_neighbours,
    order,
    sequence,
)
from molar_retrieval.models.carry_over import recount
from molar_retrieval.models.ease import EASECounts
from molar_retrieval.models.k_anonymity import KAnonymity, had_by_few
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.sequential import transitions
from molar_retrieval.models.store import open_model
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import FROM, USUAL, PrivacySettings

LEAST, N_ITEMS = 3, 30
RANDOM = np.random.default_rng(5)
MANY = [list(RANDOM.permutation(N_ITEMS // 2)[: RANDOM.integers(1, 7)]) for _ in range(58)]
LOG = log_of([*MANY, [20, 1, 21], [2, 21]], N_ITEMS)


def people_of_pairs(log: Any) -> np.ndarray:
    """How many people had two items, counted one by one."""
    found = np.zeros((log.n_items, log.n_items), int)
    for user in range(log.n_users):
        had = sorted({*log.history(user).tolist()})
        for one, other in combinations(had, 2):
            found[one, other] += 1
            found[other, one] += 1
        found[had, had] += 1
    return found


PEOPLE = people_of_pairs(LOG)
FEW = (PEOPLE > 0) & (PEOPLE < LEAST)


def test_pairs_that_few_had_are_those_that_loops_find() -> None:
    assert FEW.any()
    assert not FEW.all()
    found = KAnonymity.of(LOG, LEAST)
    assert np.array_equal(found.pairs.toarray() > 0, FEW)
    upper = np.triu(np.ones_like(FEW))
    assert found.share == pytest.approx((FEW & (upper > 0)).sum() / ((PEOPLE > 0) & (upper > 0)).sum())
    assert KAnonymity.of(LOG, 1) is None
    assert np.array_equal(had_by_few(LOG, LEAST), FEW.diagonal())


@pytest.mark.parametrize("model", ["counts", "regression", "EASE", "item-kNN"])
def test_no_model_keeps_them_and_what_nobody_had_stays(model: str) -> None:
    def fitted(few: KAnonymity | None) -> np.ndarray:
        if model == "counts":
            setting = {"model": "co-occurrence", **COUNTS[2]}
            made = sequence(LOG, transitions(LOG, *order(setting)), setting, N_ITEMS, few)
        elif model == "regression":
            setting = {"model": "regression", **REGRESSIONS[0]}
            made = sequence(LOG, transitions(LOG, *order(setting)), setting, N_ITEMS, few)
        elif model == "EASE":
            made = ease(EASECounts.of(LOG), {"model": EASE, "regularisation": 10.0}, N_ITEMS, N_ITEMS, few)
        else:
            made = item_neighbours(LOG, {"model": ITEM_KNN, **NEIGHBOURS}, N_ITEMS, few)
        return made.weights.toarray()

    whole, rest = fitted(None), fitted(KAnonymity.of(LOG, LEAST))
    assert (whole[FEW] != 0).any()
    assert not rest[FEW].any()
    assert np.array_equal(rest[~FEW], whole[~FEW])


def test_what_is_fitted_heeds_it_and_a_recount_is_the_same() -> None:
    counts, report = fit_count_models(LOG, lambda scoring: 0.0, N_ITEMS, (SEQUENTIAL, EASE_MODEL), least=LEAST)
    for expert in counts:
        assert not expert.weights.toarray()[FEW].any()
    chosen = {name: report[name]["chosen"] for name in (SEQUENTIAL, EASE_MODEL)}
    rows = np.arange(N_ITEMS)
    counted = recount(LOG, chosen, N_ITEMS, counts, rows, LEAST)
    for one, other in zip(counted.item_item, counts, strict=True):
        np.testing.assert_allclose(one.weights.toarray(), other.weights.toarray(), atol=1e-6)


def test_demand_of_few_people_is_as_if_there_were_none() -> None:
    whole, rest = Popularity.fit(LOG, np.inf).now(), Popularity.fit(LOG, np.inf, LEAST).now()
    few = had_by_few(LOG, LEAST)
    nobody = np.bincount(LOG.item, minlength=N_ITEMS) == 0
    assert few.any()
    assert (rest[few] == rest[nobody][0]).all()
    assert np.array_equal(rest[~few], whole[~few])


def test_large_logs_heed_it_where_nothing_is_said() -> None:
    assert [PrivacySettings().fewest(n) for n in (FROM - 1, FROM)] == [1, USUAL]
    assert PrivacySettings(min_users=1).fewest(10**6) == 1
    assert PrivacySettings(min_users=3).fewest(10) == 3


@pytest.fixture(scope="module")
def shop(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Days:
    days = Days(trained, tmp_path_factory.mktemp("few"))
    settings = days.shop.workspace.parent / "molar.toml"
    settings.write_text(settings.read_text("utf-8") + f"\n[privacy]\nmin_users = {LEAST}\n", "utf-8")
    days.shop.align(preset="instant")
    return days


def _had(log: Any) -> tuple[Counter, dict[str, set[str]]]:
    by_user, people = defaultdict(set), defaultdict(set)
    for user, item in log[["user_id", "item_id"]].itertuples(index=False):
        by_user[user].add(item)
        people[item].add(user)
    pairs = Counter(pair for had in by_user.values() for pair in combinations(sorted(had), 2))
    return pairs, people


def test_no_file_of_a_generation_has_a_pair_or_a_popularity_of_fewer(shop: Days) -> None:
    for round_ in range(2):
        if round_:  # an update keeps to it: two more people have a pair, and somebody a new one
            shop.buy(("u0001", "SKU-0002"), ("u0001", "SKU-0003"), ("u0002", "SKU-0050"), ("u0002", "SKU-0003"))
            shop.shop.update()
        assert_nothing_of_few(shop)


def assert_nothing_of_few(shop: Days) -> None:
    import pandas as pd

    pairs, people = _had(pd.read_parquet(shop.folder / "interactions.parquet"))
    with shop.shop.recommender() as recommender:
        generation = recommender.generation
        table = load_file(generation.folder / "table.safetensors")
        support = table["item_item.support"]
        assert not ((support > 0) & (support < LEAST)).any()
        assert (support >= LEAST).any()
        rows = {row: generation.index.fetch([row])[0].item_id for row in range(len(generation.index))}
        starts, items = table["item_item.starts"], table["item_item.items"]
        for dimension in range(len(starts) - 1):
            other = rows[dimension % len(rows)]
            for row in items[starts[dimension] : starts[dimension + 1]].tolist():
                both = tuple(sorted((rows[row], other)))
                count = pairs[both] if both[0] != both[1] else len(people[other])
                assert count == 0 or count >= LEAST, both
        popular = json.loads((generation.folder / "popular.json").read_text("utf-8"))
        assert popular
        assert all(len(people[rows[row]]) >= LEAST for row, _ in popular)
    assert open_model(Workspace(shop.shop.workspace)["alignment"].require()[0]).least == LEAST


def test_the_table_of_the_same_shop_without_it_has_such_pairs(trained: Any) -> None:
    folder: Path = Workspace(trained.workspace)["generations"].require()[0]
    support = load_file(folder / "table.safetensors")["item_item.support"]
    assert ((support > 0) & (support < LEAST)).any()
