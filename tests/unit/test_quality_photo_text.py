"""Photos and words that do not belong together."""

import numpy as np
import pytest

from molar_retrieval.ids import IdMap
from molar_retrieval.quality import photo_text
from molar_retrieval.quality.items import Items

N = 900


def made_up(noise=0.6, n=N, seed=0):
    """Vectors of photos and words that have 12 dimensions in common, hidden in noise by random maps."""
    random = np.random.default_rng(seed)
    common = random.standard_normal((n, 12))
    photos = common @ random.standard_normal((12, 48)) + 3 * noise * random.standard_normal((n, 48))
    words = common @ random.standard_normal((12, 32)) + 3 * noise * random.standard_normal((n, 32))
    return photos.astype(np.float32), words.astype(np.float32)


def exchanged(photos, pairs):
    order = np.arange(len(photos))
    for a, b in pairs:
        order[a], order[b] = b, a
    return photos[order]


def items(n=N):
    return Items(
        ids=IdMap([f"i{row}" for row in range(n)]),
        file="items.parquet",
        numbers=np.arange(1, n + 1),
        photos=[f"{row}.jpg" for row in range(n)],
        titles=np.arange(n, dtype=np.uint64),
        bad_photo=np.zeros(n, bool),
        title_column="title",
        description_column=None,
        photo_column="image",
    )


def test_exchanged_photos_are_told_without_any_model_that_knows_both():
    photos, words = made_up()
    pairs = [(n, n + 400) for n in range(0, 40, 2)]
    found = photo_text.agreement(exchanged(photos, pairs), words)
    wrong = np.isin(found.rows, np.ravel(pairs))
    assert found.useful
    assert (found.fit[~wrong][:, None] > found.fit[wrong][None]).mean() > 0.97
    assert found.fit[wrong].mean() == pytest.approx(0, abs=0.6)  # as strangers
    assert found.strangers == pytest.approx(40 / N, abs=0.02)
    below = found.fit < found.limit
    assert (below & wrong).sum() >= 25
    assert (below & ~wrong).sum() <= (below & wrong).sum()  # half of them at least are right
    named = {frozenset((int(a), int(b))) for a, b, _ in photo_text.swapped(found)}
    right = named & {frozenset(pair) for pair in pairs}
    assert right
    assert len(right) >= 0.7 * len(named)


def test_findings_name_both_items_of_an_exchange():
    photos, words = made_up(noise=0.2)
    pairs = [(n, n + 500) for n in range(12)]
    found = photo_text.agreement(exchanged(photos, pairs), words)
    swapped = {
        (finding.item_id, *finding.others)
        for finding in photo_text.check_pairs(found, items())
        if finding.kind.name == "pair.swapped"
    }
    right = {(f"i{a}", f"i{b}") for a, b in pairs}
    assert len(swapped & right) >= 2
    assert swapped <= right | {(b, a) for a, b in right}
    assert {(b, a) for a, b in swapped} == swapped


def test_where_all_is_well_hardly_anything_is_pointed_out():
    for seed in range(5):
        found = photo_text.agreement(*made_up(seed=seed))
        assert (found.fit < found.limit).sum() <= 0.005 * N
        assert found.strangers < 0.01


def test_where_photos_and_words_have_nothing_in_common_nothing_is_said():
    photos, _ = made_up(seed=1)
    _, words = made_up(seed=2)
    found = photo_text.agreement(photos, words)
    assert not found.useful
    assert found.win_rate == pytest.approx(0.5, abs=0.05)
    assert list(photo_text.check_pairs(found, items())) == []


def test_items_without_photo_or_words_are_left_out():
    photos, words = made_up(n=150)
    photos[:20] = 0
    words[30:40] = 0
    found = photo_text.agreement(photos, words)
    assert len(found.rows) == 120
    assert not set(found.rows) & {*range(20), *range(30, 40)}
    photos[:60] = 0
    assert photo_text.agreement(photos, words) is None


def test_the_same_vectors_give_the_same_judgement():
    first, second = (photo_text.agreement(*made_up()) for _ in range(2))
    assert np.array_equal(first.fit, second.fit)
    assert first.to_dict() == second.to_dict()
