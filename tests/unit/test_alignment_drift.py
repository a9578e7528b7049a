"""How well an alignment foretells what comes, and whether that falls."""

from dataclasses import replace

import numpy as np
import pytest

from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import open_log
from molar_retrieval.models.drift import PredictedHits, drift, predicted_hits, reference, with_record
from molar_retrieval.models.store import open_model
from molar_retrieval.models.validation import ndcg
from molar_retrieval.workspace.artefacts import Workspace


@pytest.fixture(scope="module")
def shop(trained):
    """A model, the log up to its last fifth, and all of the log."""
    workspace = Workspace.open(trained.workspace)
    log = open_log(workspace)
    moment = np.quantile(log.timestamp, 0.8)
    return open_model(workspace["alignment"].require()[0]), log.select(log.timestamp <= moment), log


def scattered(log, before, seed):
    """The log with other things taken after a former one."""
    late = log.timestamp > before.timestamp.max()
    item = log.item.copy()
    item[late] = np.random.default_rng(seed).integers(0, log.n_items, late.sum())
    return replace(log, item=item)


def hits(*places, cases=100):
    """A record of so many cases, of which these were hit at these places."""
    counts = np.bincount(places, minlength=12)[1:]
    counts[10] += cases - len(places)
    return PredictedHits(0, tuple(counts.tolist()))


def test_a_case_is_the_first_new_thing_of_each_known_person(shop):
    model, before, now = shop
    found = predicted_hits(model, before, now)
    expected = 0
    for user in range(now.n_users):
        own = slice(now.offsets[user], now.offsets[user + 1])
        late = now.timestamp[own] > before.timestamp.max()
        had = set(before.history(user).tolist())
        expected += bool(had) and any(item not in had for item in now.item[own][late].tolist())
    assert found.cases == expected > 20
    assert found.until == now.timestamp.max()
    assert PredictedHits.of(found.to_dict()) == found


def test_people_and_items_are_told_by_their_ids(shop):
    model, before, now = shop
    order = np.random.default_rng(0).permutation(now.n_items)
    place = np.argsort(order)
    ids = np.array(now.items.array.to_pylist(), object)
    moved = replace(now, items=IdMap([*ids[order], "new"]), item=place[now.item].astype(np.int32))
    assert predicted_hits(model, before, moved) == predicted_hits(model, before, now)
    strangers = replace(now, users=IdMap([f"stranger {n}" for n in range(now.n_users)]))
    assert predicted_hits(model, before, strangers) is None


def test_what_the_target_was_is_not_read(shop):
    """Other targets, the same model: it is worse at things taken at random."""
    model, before, now = shop
    true = predicted_hits(model, before, now)
    random = [predicted_hits(model, before, scattered(now, before, seed)) for seed in range(3)]
    assert sum(true.hits[:10]) / true.cases > 1.5 * max(sum(r.hits[:10]) / r.cases for r in random)


def test_a_planted_change_is_found_and_a_calm_log_is_not(shop):
    model, before, now = shop
    true = predicted_hits(model, before, now)
    calm = [true] * (2 * (300 // true.cases + 1))
    found = drift(calm)
    assert found.fall.mean == 0
    assert found.fall.low < 0 < found.fall.high
    assert not found.exceeds(0.1)
    few = [predicted_hits(model, before, scattered(now, before, seed)) for seed in range(3)]
    changed = [*calm[::2], *few * len(calm)]
    found = drift(changed)
    assert found.exceeds(0.2)
    assert found.now.high < found.then.low


def test_the_levels_are_those_of_the_hits():
    first, last = hits(1, 2, 2, 5, cases=300), hits(3, 3, cases=400)
    found = drift([first, last])
    ranks = np.array([1, 2, 2, 5] + [11] * 296)
    assert found.then.mean == pytest.approx(ndcg(ranks))
    assert found.now.mean == pytest.approx(2 * 0.5 / 400)
    assert found.fall.mean == pytest.approx(1 - found.now.mean / found.then.mean)
    assert found.then.low <= found.then.mean <= found.then.high


def test_few_cases_tell_nothing_yet():
    assert drift([]) is None
    assert drift([hits(1, cases=299), hits(1, cases=500)]) is None
    assert drift([hits(1, cases=300)]) is None
    assert drift([hits(1, cases=150)] * 3) is None
    assert drift([hits(1, cases=150)] * 4) is not None
    assert len(reference([hits(1, cases=150)] * 4)) == 2
    assert drift([hits(cases=300), hits(cases=300)]) is None, "where nothing was ever hit nothing can fall"


def test_what_is_kept_of_many_records_tells_the_same():
    random = np.random.default_rng(0)
    records = [PredictedHits(n, tuple(random.multinomial(20, [0.05] * 10 + [0.5]).tolist())) for n in range(200)]
    kept: list[PredictedHits] = []
    for record in records:
        kept = with_record(kept, record)
    assert len(kept) <= 14
    assert kept[-1].until == 199
    assert sum(record.cases for record in kept) < 900
    found = drift(kept)
    first = np.sum([record.hits for record in records[:15]], axis=0)
    assert reference(kept)[-1].until == 14
    assert found.then.mean == pytest.approx(ndcg(np.repeat(np.arange(1, 12), first)))
    assert with_record(kept) == kept
