"""The planted tastes, seen through the built-in encoder: text and photo together find what neither finds alone."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.demo import plan_shop
from molar_retrieval.data.demo.vocabulary import PATTERNS, STORIES
from molar_retrieval.embedding.content_vectors import ContentVectors
from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.encoders.registry import load
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings

pytestmark = pytest.mark.slow


def centred(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors around the catalogue's mean; a row of zeros (nothing to see) stays one."""
    present = np.abs(vectors).sum(1) > 0
    vectors = np.where(present[:, None], vectors - vectors[present].mean(0), 0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@pytest.fixture(scope="module")
def shop():
    return plan_shop()


@pytest.fixture(scope="module")
def views(demo, shop) -> dict[str, np.ndarray]:
    """Content vectors of all items, as `molar demo` makes them, from text alone, image alone and both."""
    workspace = Workspace(demo / "molar-demo" / ".molar")
    contents = ContentVectors.open(workspace["content"].require()[0])
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    assert contents.ids.array.to_pylist() == [item.item_id for item in shop.items]
    first = next(catalogue.batches(["text", "image"], 1)).to_pylist()[0]
    image = Image.open(catalogue.folder / first["image"]).convert("RGB")
    both, encoder = np.array(contents.vectors), load(EmbedSettings())
    views = {"both": both}
    # An encoder that keeps blocks need not look twice: a block is what its modality alone gives, up to length.
    for name, lone in (("text", EncoderInput(text=first["text"])), ("image", EncoderInput(image=image))):
        kept = [np.arange(block.start, block.stop) for block in contents.blocks if block.name == f"content_{name}"]
        assert kept, "the built-in encoder keeps blocks"
        view = np.zeros_like(both)
        view[:, np.concatenate(kept)] = both[:, np.concatenate(kept)]
        views[name] = view / np.maximum(np.linalg.norm(view, axis=1, keepdims=True), 1e-9)
        np.testing.assert_allclose(encoder.encode([lone])[0], views[name][0], atol=1e-4)
    return {name: centred(view) for name, view in views.items()}


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    hits = relevant[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def by_user(shop, vectors: np.ndarray) -> dict[str, float]:
    """Average precision, for each user with both tastes, of the unseen items that have both."""
    scores = {}
    for user in shop.users:
        history = [purchase.item for purchase in user.purchases]
        unseen = np.ones(len(shop.items), bool)
        unseen[history] = False
        relevant = shop.matches(user)[unseen]
        if user.pattern and user.story and len(history) >= 5 and relevant.sum() >= 3:
            scores[user.user_id] = average_precision(vectors[unseen] @ vectors[history].mean(0), relevant)
    return scores


@pytest.fixture(scope="module")
def users(shop, views) -> list[str]:
    """The users whose average precision counts, in the order of ``precision``."""
    return list(by_user(shop, views["both"]))


@pytest.fixture(scope="module")
def precision(shop, views) -> dict[str, np.ndarray]:
    views = {**views, "chance": np.random.default_rng(0).standard_normal((len(shop.items), 64))}
    return {name: np.array(list(by_user(shop, view).values())) for name, view in views.items()}


def sign_test(a: np.ndarray, b: np.ndarray) -> float:
    wins, losses = int((a > b).sum()), int((a < b).sum())
    return binomtest(wins, wins + losses, alternative="greater").pvalue


@pytest.mark.parametrize("alone", ["text", "image"])
def test_text_and_photo_find_planted_tastes_better_than_either_alone(precision, alone):
    assert len(precision["both"]) > 250
    assert precision["both"].mean() > 1.2 * precision[alone].mean()
    assert sign_test(precision["both"], precision[alone]) < 0.01


@pytest.mark.parametrize("alone", ["text", "image"])
def test_so_does_each_combination_of_tastes_counted_once(shop, users, precision, alone):
    """Users who share their tastes look for the same items and are not independent; so average them first."""
    tastes = {user.user_id: (user.pattern, user.story) for user in shop.users}
    groups = [tastes[user] for user in users]
    kinds = sorted(set(groups))
    assert len(kinds) == len(PATTERNS) * len(STORIES)
    means = {
        name: np.array([values[[group == kind for group in groups]].mean() for kind in kinds])
        for name, values in precision.items()
    }
    assert sign_test(means["both"], means[alone]) < 0.01


@pytest.mark.parametrize("alone", ["text", "image"])
def test_each_alone_is_better_than_chance(precision, alone):
    assert precision[alone].mean() > 1.3 * precision["chance"].mean()
    assert sign_test(precision[alone], precision["chance"]) < 0.01


def probe(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of ridge regression on one-hot labels, five-fold: can the label be read off the vectors?"""
    classes = np.unique(labels)
    onehot = (labels[:, None] == classes).astype(float)
    folds = np.arange(len(labels)) % 5
    correct = 0
    for fold in range(5):
        known = folds != fold
        gram = vectors[known].T @ vectors[known] + 0.3 * np.eye(vectors.shape[1])
        mean = onehot[known].mean(0)
        weights = np.linalg.solve(gram, vectors[known].T @ (onehot[known] - mean))
        correct += int((classes[(vectors[~known] @ weights + mean).argmax(1)] == labels[~known]).sum())
    return correct / len(labels)


@pytest.mark.parametrize(
    ("hidden", "seen_in", "not_in", "values"),
    [("pattern", "image", "text", PATTERNS), ("story", "text", "image", STORIES)],
)
def test_a_hidden_feature_can_be_read_off_its_own_modality_only(shop, views, hidden, seen_in, not_in, values):
    rows = [row for row, item in enumerate(shop.items) if item.has_photo and item.has_description]
    labels = np.array([getattr(shop.items[row], hidden) for row in rows])
    told = {name: probe(view[rows][:, np.abs(view).sum(0) > 0], labels) for name, view in views.items()}
    chance = 1 / len(values)
    assert told[seen_in] > 0.9
    assert told[not_in] < chance + 0.1  # three standard errors of a proportion over these items are .07
    assert told["both"] > 0.8


def test_content_finds_items_that_nobody_has_bought(shop, views):
    """Items held out of every history as if they were new: neighbours in content beat chance."""
    rng = np.random.default_rng(0)
    sold = sorted({purchase.item for user in shop.users for purchase in user.purchases})
    new = np.zeros(len(shop.items), bool)
    new[rng.choice(sold, 40, replace=False)] = True
    ranks = []
    for user in shop.users:
        items = [purchase.item for purchase in user.purchases]
        old, wanted = [item for item in items if not new[item]], [item for item in items if new[item]]
        if len(old) >= 3 and wanted:
            scores = views["both"] @ views["both"][old].mean(0)
            ranks.append((scores[new] > scores[wanted[0]]).mean())
    ranks = np.array(ranks)
    assert len(ranks) > 200
    assert ranks.mean() < 0.42  # by chance .5
    assert sign_test(0.5 - ranks, np.zeros(len(ranks))) < 0.01


def test_content_finds_the_truly_cold_items_that_somebody_would_like(shop, views):
    cold = np.array([item.cold for item in shop.items])
    wins = []
    for user in shop.users:
        liked = shop.matches(user) & cold
        history = [purchase.item for purchase in user.purchases]
        if user.pattern and user.story and len(history) >= 5 and liked.sum() > 0:
            scores = views["both"] @ views["both"][history].mean(0)
            wins.append(np.mean(scores[liked][:, None] > scores[cold & ~liked][None, :]))
    assert len(wins) > 100
    assert np.mean(wins) > 0.6  # by chance .5
