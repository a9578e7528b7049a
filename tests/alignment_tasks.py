"""Small made-up cases and models for tests of the alignment."""

from dataclasses import replace

import numpy as np
import torch
from eval_model_tasks import log_of
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models import content_features
from molar_retrieval.models.content_knn import ContentKNN
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import ItemItemWeights
from molar_retrieval.models.popularity import DAY
from molar_retrieval.models.towers.network import TwoTowerNetwork, tower_shapes
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.models.vectors import Predictor
from molar_retrieval.workspace.settings import COUNT_MODELS, AlignSettings

TOWERS, EXPERTS = ("id_tower", "content_tower"), ("sequential", "ease", "content_knn", "popularity")
N = 40
NEW = np.array([5, 17, 30, 31, 38])
"""Items without interactions."""
KNOWN = np.setdiff1d(np.arange(N), NEW)
BLOCKS = (VectorBlock("content_text", 0, 6), VectorBlock("content_image", 6, 14))
_WEIGHTS = {
    "id_tower": 1.0,
    "content_tower": 0.7,
    "sequential": 0.4,
    "ease": 1.3,
    "content_knn": 0.9,
    "popularity": 0.35,
}
_NEWCOMER = {"id_tower": 0.6, "content_tower": 0.8, "content_knn": 1.7, "popularity": 0.2}


def cases_of(histories, targets, n_items, *, users=None, candidates=None, times=None):
    """Cases on top of histories; without ``users`` one per history."""
    users = np.arange(len(histories)) if users is None else np.asarray(users)
    times = np.zeros(len(users), np.int64) if times is None else np.asarray(times, np.int64)
    allowed = np.ones(n_items, bool) if candidates is None else candidates
    return ValidationCases(
        log_of(histories, n_items), users.astype(np.int64), np.asarray(targets, np.int64), allowed, times
    )


def random_cases(count, n_items, seed):
    """Cases with short random histories; some targets are hidden ones."""
    random = np.random.default_rng(seed)
    histories = [random.choice(n_items, random.integers(1, 6), replace=False) for _ in range(count)]
    return cases_of(histories, random.integers(0, n_items, count), n_items, candidates=random.random(n_items) > 0.1)


def rank_by_hand(cases, scores):
    """Places of the targets, everybody who is level standing before them."""
    result = []
    for row, (user, target) in enumerate(zip(cases.users, cases.targets, strict=True)):
        seen = set(cases.log.history(user).tolist())
        rivals = [i for i in range(scores.shape[1]) if i not in seen and cases.candidates[i]]
        own = scores[row, target]
        result.append(sum(scores[row, i] >= own for i in rivals) if target in rivals else scores.shape[1] + 1)
    return result


def settings_of(towers):
    """Small sizes for some towers."""
    return AlignSettings(
        models=(*towers, *COUNT_MODELS), embedding_dim=16,
        content_dim=8, n_blocks=1, n_content_blocks=1, max_history=6,
        batch_tokens=256,
        precision="float32", device="cpu", threads=1,
    )  # fmt: skip


def training_log(seed=0):
    """What 30 users took of the known items over a hundred days."""
    random = np.random.default_rng(seed)
    known = np.setdiff1d(np.arange(N), NEW)
    lengths = random.integers(0, 9, 30)
    times = [np.sort(11_000 * DAY + random.integers(0, 100 * DAY, length)) for length in lengths]
    items = [random.choice(known, length, p=_popular(len(known))) for length in lengths]
    return log_of([i.tolist() for i in items], N, np.concatenate(times))


def asked_log():
    """Histories to score, one of them empty, asked about at different times of the training log."""
    log = log_of([[1, 2, 3], [], [7, 7, 9, 20, 21, 22, 23, 24], [39], [5]], N)
    return replace(log, asked_at=11_000 * DAY + np.array([60, 3, 101, 30, 30]) * DAY + 5000)


def _popular(n):
    share = 1 / np.arange(1, n + 1)
    return share / share.sum()


def model_of(towers=TOWERS, counts=EXPERTS, *, weights=None, cold_start_weights=None, slots=(9, 10), seed=0):
    """An untrained model whose every number is random and that has not yet seen a log."""
    random = np.random.default_rng(seed)
    known = np.ones(N, bool)
    known[NEW] = False
    content = random.normal(size=(N, 14)).astype(np.float32)
    content[3] = 0
    conditioner = content_features.fit(content, BLOCKS, 5)
    features = conditioner(content)
    torch.manual_seed(seed)
    network = TwoTowerNetwork(tower_shapes(settings_of(towers)), N, torch.from_numpy(features), 4).eval()
    for tower in network.towers.values():
        torch.nn.init.normal_(tower.position_bias)
        torch.nn.init.normal_(tower.time_bias)
    neighbors = []
    for name, memory in (("sequential", (0.8, 4, 0.3)), ("ease", (None, None))):
        made = random_sparse(N, N, 0.2, "csr", np.float32, random).toarray()
        made[NEW] = made[:, NEW] = 0
        made = csr_matrix(made)
        neighbors += [ItemItemWeights(name, made, *memory)] if name in counts else []
    widths = {"id_tower": 16, "content_knn": features.shape[1], "popularity": 1}
    predictors = {
        name: Predictor(
            random.normal(size=(features.shape[1], width)).astype(np.float32),
            (name != "content_knn") * random.normal(size=width).astype(np.float32),
        )
        for name, width in widths.items()
        if name in (*towers, *counts, "popularity")
    }
    names = (*towers, *counts)
    return Ensemble(
        network=network,
        conditioner=conditioner,
        features=features,
        known=known,
        item_item=tuple(neighbors),
        content_knn=ContentKNN.of(features, 0.7, 3) if "content_knn" in counts else None,
        half_life=20.0 if "popularity" in counts else None,
        weights={n: w for n, w in (_WEIGHTS if weights is None else weights).items() if n in names},
        cold_start_weights={
            n: w
            for n, w in (_NEWCOMER if cold_start_weights is None else cold_start_weights).items()
            if n in (*names, "popularity")
        },
        predictors=predictors,
        slots=slots,
        precision="float32",
    )
