"""What people's groups add: how much more often than others they take items of a department, a genre.

    python bench/groups.py CATALOGUE WORKSPACE --columns department [--columns department,section ...]
                           [--split "last day"] [--before 3] [--words]

Each ``--columns`` is a variant: one column of attributes, or several whose parts are summed (naive Bayes). Of the n_g
interactions that somebody has with group g, each ``decay`` less per place from the end, and its share p_g of all
training interactions the part of an item in g is

    log P(g | person) / P(g) = log(1 + n_g / (prior · p_g)) + what is the same for all items

under a Dirichlet prior that is worth so many interactions; of several values of a column, the mean. Prior, decay and
weight beside the trend alone, and the weights of all experts with the part and without (``fuse``), are chosen on one
validation and judged on the next: that of the split, and those of as many days (or interactions) ``--before`` it in
everybody's history. Errors are over people. Last, newcomers: training interactions with a tenth of the items that
plays them, weights chosen by half of the people and judged by the others. Nothing of a test is looked at. The
workspace needs prepared interactions and content vectors, or none of these with ``--words``, and stays as it is.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, diags_array

from molar_eval.splits import last_day, leave_one_out
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.data.values import as_strings, is_list
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.models import content_features
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import CountModels, count_models
from molar_retrieval.models.blending import Dense, PopularityAt, ScoreComponent, blend, ranked
from molar_retrieval.models.cold_start import among
from molar_retrieval.models.item_item import decayed, known_items
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.validation import ValidationCases, gains, ndcg, sample, taken, withheld_items
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, PrivacySettings
from molar_retrieval.workspace.tensors import Matrix, Rows

_PRIORS, _DECAYS, _WEIGHTS = (1.0, 10.0, 100.0), (1.0, 0.9), (0.25, 0.5, 1.0)
_CASES, _SETTINGS_BY = 3000, 1500
_ALL = 10_000
Gains = np.ndarray


@dataclass(frozen=True)
class Groups:
    """Items × values of each column, and of each its values' shares of the training interactions."""

    columns: Sequence[csr_matrix]
    shares: Sequence[np.ndarray]

    @classmethod
    def of(cls, columns: Sequence[csr_matrix], log: Interactions) -> "Groups":
        counts = np.bincount(log.item, minlength=log.n_items).astype(np.float64)
        shares = [counts @ values + 0.5 for values in columns]
        return cls(columns, [share / share.sum() for share in shares])

    def part(self, histories: Interactions, prior: float, decay: float) -> Dense:
        users, items = [], []
        for values, share in zip(self.columns, self.shares, strict=True):
            had = (decayed(histories, decay, _ALL) @ values).toarray()
            users.append(np.log1p(had / (prior * share)).astype(np.float32))
            of_item = np.maximum(1, np.asarray(values.sum(axis=1)).ravel())
            items.append((diags_array(1 / of_item) @ values).toarray().astype(np.float32))
        return Dense(np.concatenate(users, axis=1), np.concatenate(items, axis=1))

    def parts(self, cases: ValidationCases, prior: float, decay: float) -> dict[str, ScoreComponent]:
        return {"groups": self.part(cases.histories(), prior, decay)} if self.columns else {}


def values_of(catalogue: Catalogue, column: str) -> csr_matrix:
    rows, written = [], []
    begin = 0
    for batch in catalogue.batches([column], 65_536):
        array = batch.column(0)
        own = np.asarray(pc.list_parent_indices(array)) if is_list(array.type) else np.arange(len(array))
        texts = as_strings(pc.list_flatten(array) if is_list(array.type) else array)
        rows.append(begin + own[np.asarray(pc.is_valid(texts))])
        written.append(texts.drop_null())
        begin += len(batch)
    encoded = pa.chunked_array(written).combine_chunks().dictionary_encode()
    place = np.concatenate(rows), np.asarray(encoded.indices)
    found = csr_matrix((np.ones(len(place[0]), np.float32), place), shape=(len(catalogue), len(encoded.dictionary)))
    found.data[:] = 1
    return found


def before(log: Interactions, split: str, left_out: int) -> tuple[Interactions, ValidationCases]:
    """Training interactions and cases where so many of everybody's last days, or interactions, are left out."""
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    place = ends - 1 - np.arange(len(log))
    if split == "last day":
        user, day = log.user[::-1], (log.timestamp // 86_400)[::-1]
        another = np.concatenate([[False], (day[1:] != day[:-1]) & (user[1:] == user[:-1])])
        number = np.cumsum(another)
        first = np.concatenate([[True], user[1:] != user[:-1]])
        place = (number - np.maximum.accumulate(np.where(first, number, 0)))[::-1]
    made = (last_day if split == "last day" else leave_one_out)(log.select(place >= left_out))
    asked = made.validation
    users, times = asked.user[asked.case_of_target], asked.times()[asked.case_of_target]
    everything = np.ones(log.n_items, bool)
    cases = ValidationCases(made.training, users, asked.targets.astype(np.int64), everything, times)
    return made.training, sample(cases, _CASES, np.random.default_rng(0))


def chosen(groups: Groups, cases: ValidationCases, popularity: Popularity) -> tuple[float, float, float]:
    """Prior, decay, and weight beside the trend."""
    cases = sample(cases, _SETTINGS_BY, np.random.default_rng(0))
    found = {}
    for prior, decay in product(_PRIORS, _DECAYS):
        parts = {
            "popularity": PopularityAt(popularity, cases.times),
            "groups": groups.part(cases.histories(), prior, decay),
        }
        ranks = ranked(cases, parts, [{"popularity": 1, "groups": weight} for weight in _WEIGHTS])
        found |= {(prior, decay, weight): ndcg(rank) for weight, rank in zip(_WEIGHTS, ranks, strict=True)}
    return max(found, key=lambda setting: found[setting])


@dataclass(frozen=True)
class Choice:
    """What one validation chose: prior, decay and weight beside the trend, and the weights of all parts."""

    prior: float
    decay: float
    weight: float
    weights: Mapping[str, float]

    @classmethod
    def of(cls, name: str, groups: Groups, cases: ValidationCases, counts: CountModels) -> "Choice":
        assert counts.popularity is not None
        prior, decay, weight = chosen(groups, cases, counts.popularity) if groups.columns else (1.0, 1.0, 0.0)
        fused = blend(cases, counts.parts(cases) | groups.parts(cases, prior, decay))
        dropped = {part: f"{gain.value:+.4f} ± {gain.error:.4f}" for part, gain in fused.dropped.items()}
        shares = {part: round(share, 3) for part, share in fused.shares.items()}
        print(f"  {name or 'experts'}: {ndcg(fused.ranks):.4f} where chosen by {len(cases)} cases, shares {shares},")
        print(f"    dropped {dropped}, prior {prior:g}, decay {decay:g}, {weight:g} times beside the trend", flush=True)
        return cls(prior, decay, weight, fused.weights)

    def judged(self, groups: Groups, cases: ValidationCases, counts: CountModels) -> tuple[Gains, Gains]:
        """Gains beside the trend alone, and with all experts."""
        parts = counts.parts(cases) | groups.parts(cases, self.prior, self.decay)
        beside, whole = ranked(cases, parts, [{"popularity": 1, "groups": self.weight}, self.weights])
        return gains(beside), gains(whole)


def told(having: Gains, lacking: Gains, people: Rows) -> str:
    """The mean of cases without and with, and the difference with its standard error over people."""
    gained = having - lacking
    error = np.sqrt((np.bincount(people, gained - gained.mean()) ** 2).sum()) / len(gained)
    return f"{lacking.mean():.4f} → {having.mean():.4f}, {gained.mean():+.4f} ± {error:.4f}"


def newcomers(log: Interactions, counts: CountModels, groups: Groups, choice: Choice) -> str:
    """What is gained beside content neighbours among withheld items, weights being chosen by half of the people."""
    withheld, taste = withheld_items(known_items(log), 0), counts.content_knn
    assert taste is not None
    cases = taken(log, withheld, 0)
    histories, among_them = cases.histories(), among(cases, withheld)
    part = groups.part(histories, choice.prior, choice.decay)
    whole = {
        "content_knn": Dense(taste.users(histories), taste.items[withheld]),
        "groups": Dense(part.users, part.items[withheld]),
    }
    halves = np.array_split(np.arange(len(cases)), 2)
    some, others = ({n: Dense(p.users[half], p.items) for n, p in whole.items()} for half in halves)
    weights = blend(among_them.select(halves[0]), some).weights
    judges = among_them.select(halves[1])
    lacking, having = ranked(judges, others, [{"content_knn": 1.0}, weights])
    return told(gains(having), gains(lacking), judges.users)


def features_of(workspace: Workspace, catalogue: Catalogue, words: bool) -> Matrix:
    keep = AlignSettings().content_components
    if words:
        return content_features.words_alone(catalogue, keep)
    said, content = hashed_features(catalogue), ContentVectors.open(workspace["content"].require()[0])
    made = content_features.fit(content.vectors, content.blocks, keep, said, ready=content.conditioned)
    return made(content.vectors, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--columns", action="append", required=True)
    parser.add_argument("--split", choices=("last day", "leave-one-out"), default="last day")
    parser.add_argument("--before", type=int, default=3)
    parser.add_argument("--words", action="store_true")
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    log, catalogue = open_log(workspace), Catalogue.open(workspace["catalogue"].require()[0])
    features, least = features_of(workspace, catalogue, asked.words), PrivacySettings().fewest(log.n_users)
    values = {name: [values_of(catalogue, column) for column in name.split(",")] for name in asked.columns}
    choices: dict[str, Choice] = {}
    judged: dict[str, list[tuple[Gains, Gains]]] = {name: [] for name in ("", *values)}
    people: list[Rows] = []
    for left_out in range(asked.before, -1, -1):
        training, cases = before(log, asked.split, left_out)
        counts = count_models(training, cases, features, AlignSettings(), least=least)
        groups = {name: Groups.of(own, training) for name, own in {"": [], **values}.items()}
        if choices:
            people.append(cases.users)
        for name, choice in choices.items():
            judged[name].append(choice.judged(groups[name], cases, counts))
        if left_out:
            print(f"{left_out} before", flush=True)
            choices = {name: Choice.of(name, own, cases, counts) for name, own in groups.items()}
    of_all = np.concatenate(people)
    recent, without = map(np.concatenate, zip(*judged[""], strict=True))
    for name in values:
        beside, whole = map(np.concatenate, zip(*judged[name], strict=True))
        print(f"{name}, {len(of_all)} cases: popularity {told(beside, recent, of_all)}; count models", end=" ")
        print(f"{told(whole, without, of_all)}; cold start {newcomers(training, counts, groups[name], choices[name])}")


if __name__ == "__main__":
    main()
