"""The demo shop's log has structure that simple models find: leave-one-out, all items ranked, seen ones hidden."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest

from molar_retrieval.data.demo import plan_shop


class LeaveOneOut:
    """Every user's last purchase is the target, where they bought three things or more and it is new to them."""

    def __init__(self, shop):
        histories = [[purchase.item for purchase in user.purchases] for user in shop.users]
        self.histories = [h for h in histories if len(h) >= 3 and h[-1] not in h[:-1]]
        self.inputs = [h[:-1] for h in self.histories]
        self.targets = np.array([h[-1] for h in self.histories])
        self.n_items = len(shop.items)
        self.bought = np.zeros((len(self.inputs), self.n_items))
        for row, history in enumerate(self.inputs):
            self.bought[row, history] = 1
        self.counts = self.bought.sum(0)

    def popularity(self):
        return np.tile(self.counts, (len(self.inputs), 1))

    def item_knn(self):
        together = self.bought.T @ self.bought
        np.fill_diagonal(together, 0)
        return self.bought @ (together / np.sqrt(np.outer(self.counts + 1, self.counts + 1)))

    def followers(self):
        """Ordered co-occurrence: what others bought right after the last item."""
        after = np.zeros((self.n_items, self.n_items))
        for history in self.inputs:
            for first, second in pairwise(history):
                after[first, second] += 1
        after /= np.sqrt(np.outer(self.counts + 5, self.counts + 5))
        return after[[history[-1] for history in self.inputs]]

    def ndcg(self, scores) -> np.ndarray:
        """NDCG@10 of each user; ties count as half."""
        scores = np.where(self.bought > 0, -np.inf, scores)
        own = scores[np.arange(len(scores)), self.targets][:, None]
        rank = (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
        return np.where(rank < 10, 1 / np.log2(rank + 2), 0)


@pytest.fixture(scope="module")
def split() -> LeaveOneOut:
    return LeaveOneOut(plan_shop())


def clearly_better(a: np.ndarray, b: np.ndarray) -> bool:
    """A sign test over users."""
    wins, losses = int((a > b).sum()), int((a < b).sum())
    return binomtest(wins, wins + losses, alternative="greater").pvalue < 0.01


def test_there_are_enough_users_to_tell(split):
    assert len(split.targets) > 600


def test_popularity_is_worth_something(split):
    random = np.random.default_rng(0).random(split.bought.shape)
    assert split.ndcg(split.popularity()).mean() > 3 * split.ndcg(random).mean()


def test_neighbours_are_far_above_popularity(split):
    popularity, knn = split.ndcg(split.popularity()), split.ndcg(split.item_knn())
    assert knn.mean() > 1.5 * popularity.mean()
    assert clearly_better(knn, popularity)


def test_the_order_of_purchases_tells_more_than_the_set(split):
    knn = split.item_knn()
    # Averaged over the history as the followers are over one item.
    lengths = np.array([len(history) for history in split.inputs])[:, None]
    both = split.ndcg(knn / lengths + split.followers())
    assert both.mean() > 1.3 * split.ndcg(knn).mean()
    assert clearly_better(both, split.ndcg(knn))


def test_a_shuffled_log_has_no_such_structure(split):
    # The check itself must be able to fail: with targets dealt out at random, neighbours find nothing.
    shuffled = LeaveOneOut(plan_shop())
    shuffled.targets = np.random.default_rng(1).permutation(shuffled.targets)
    assert shuffled.ndcg(shuffled.item_knn()).mean() < 1.2 * shuffled.ndcg(shuffled.popularity()).mean()
