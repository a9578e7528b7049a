"""How many people it takes to tell which of two lists is better: interleaving against an A/B test, on real purchases.

python bench/interleaving.py FOLDER [--k 10] [--draws 40]
python bench/interleaving.py --looks

FOLDER has interactions.parquet (user_id, item_id, timestamp in seconds). What somebody took on their last day is what
they want next; lists are made of what they took before, and hide it. Each person sees one list. What is wanted and
shown is taken with the chance of seeing its place, 1 / log2(1 + place), and nothing else is: so lists are told apart by
what people really bought, but which of it they would have seen is an assumption. People are needed for a power of 80 %
at 5 % of false alarms, with one look; for interleaving also where it is looked at all the time. ``--looks`` says what
that costs by itself.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix

from molar_eval.experiments.interleaving import STAKE
from molar_retrieval.experiments.interleaving import interleave
from molar_retrieval.models.ease import solve

ALPHA, POWER = 0.05, 0.8
TOSSES = 20  # lists of team draft for each person
DAY = 86_400
Z_ALPHA, Z_POWER = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)
RIDGE, NEIGHBOURS = 100.0, 100
COMPARED = (("item-kNN", "EASE"), ("EASE, 10 × the ridge", "EASE"), ("most popular", "item-kNN"))
SEQUENCES, EVERY = 2_000, 10  # simulated experiments, and votes between two looks


@dataclass(frozen=True)
class Shop:
    """Who had what (people × items), and what each of them takes next, by row."""

    had: csr_matrix
    wants: list[set[int]]


def read(folder: Path) -> Shop:
    """People with at least two days; the last one is what they want."""
    table = pq.read_table(folder / "interactions.parquet", columns=["user_id", "item_id", "timestamp"])
    _, user = np.unique(table["user_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    _, item = np.unique(table["item_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    day = table["timestamp"].to_numpy() // DAY
    last = np.zeros(user.max() + 1, np.int64)
    np.maximum.at(last, user, day)
    before = day < last[user]
    shape = (user.max() + 1, item.max() + 1)
    had = csr_matrix((np.ones(before.sum(), np.float32), (user[before], item[before])), shape=shape)
    had.data[:] = 1
    wants: list[set[int]] = [set() for _ in range(shape[0])]
    for person, one in zip(user[~before].tolist(), item[~before].tolist(), strict=True):
        wants[person].add(one)
    several = np.flatnonzero(np.diff(had.indptr) > 0)
    return Shop(had[several], [wants[person] for person in several.tolist()])


def models(shop: Shop) -> dict[str, Callable[[], np.ndarray]]:
    """Weights between items, by name."""
    gram = np.asarray((shop.had.T @ shop.had).toarray(), np.float32)
    taken = np.maximum(np.diag(gram), 1)

    def neighbours() -> np.ndarray:
        like = gram / np.sqrt(taken[:, None] * taken)
        np.fill_diagonal(like, 0)
        least = -np.partition(-like, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
        return np.where(like >= least[:, None], like, 0).T

    return {
        "EASE": lambda: solve(gram, RIDGE),
        "EASE, 10 × the ridge": lambda: solve(gram, 10 * RIDGE),
        "item-kNN": neighbours,
        "most popular": lambda: np.tile(np.diag(gram) / len(shop.wants), (len(gram), 1)),
    }


def lists(shop: Shop, weights: np.ndarray, k: int) -> np.ndarray:
    """The first k items of each person that they had not, shape (people, k)."""
    found = []
    for start in range(0, len(shop.wants), 1024):
        own = shop.had[start : start + 1024]
        scores = np.asarray(own @ weights)
        scores[own.nonzero()] = -np.inf
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)


def team_draft(control: Sequence[int], treatment: Sequence[int], k: int, toss: np.random.Generator) -> dict[int, float]:
    """Items of a list of team draft in their order, 1 for the treatment's and -1 for the control arm's."""
    teams: dict[int, float] = {}
    while len(teams) < k:
        sides = ((control, -1.0), (treatment, 1.0))
        for own, side in sides if toss.random() < 0.5 else sides[::-1]:
            item = next((one for one in own if one not in teams), None)
            if item is not None and len(teams) < k:
                teams[item] = side
    return teams


def verdicts(shown: Iterator[tuple[Sequence[int], dict[int, float], set[int]]], draws: int) -> tuple[float, float]:
    """The chances that somebody prefers the treatment, or the control arm, by lists, credits and wants."""
    toss = np.random.default_rng(0)
    signs, count = [0, 0], 0
    for items, credit, wants in shown:
        count += draws
        places = [place for place, item in enumerate(items) if item in wants and item in credit]
        if places:
            seen = toss.random((draws, len(places))) < 1 / np.log2(np.array(places) + 2)
            sums = seen @ np.array([credit[items[place]] for place in places])
            signs[0] += int((sums > 1e-9).sum())
            signs[1] += int((sums < -1e-9).sum())
    return signs[0] / count, signs[1] / count


def sign_test(win: float, loss: float) -> float:
    """People for one look at a sign test of those who prefer an arm."""
    share = win / (win + loss)
    return ((Z_ALPHA / 2 + Z_POWER * sqrt(share * (1 - share))) / (share - 0.5)) ** 2 / (win + loss)


def at_any_look(share: float, most: int) -> tuple[float, float]:
    """Votes within which a preference is found with the power, and after which it is over on average."""
    wins = np.cumsum(np.random.default_rng(0).random((SEQUENCES, most)) < share, axis=1, dtype=np.int32)
    wins, count = wins[:, EVERY - 1 :: EVERY], np.arange(EVERY, most + 1, EVERY)
    spread = 1 + STAKE**2 * count
    gain = (STAKE * (2 * wins - count)) ** 2 / (2 * spread) - np.log(spread) / 2
    over = gain > -np.log(ALPHA)
    first = np.where(over.any(axis=1), count[over.argmax(axis=1)], most)
    within = float(np.quantile(first, POWER))
    return within, float(np.minimum(first, within).mean())


def ab_test(chances: Sequence[np.ndarray]) -> float:
    """People of both arms together by the chance of each person to convert in each arm."""
    control, treatment = (float(chance.mean()) for chance in chances)
    spread = control * (1 - control) + treatment * (1 - treatment)
    return 2 * (Z_ALPHA + Z_POWER) ** 2 * spread / (treatment - control) ** 2


def conversion(shop: Shop, ranked: np.ndarray) -> np.ndarray:
    """The chance that each person takes something of their list."""
    unseen = 1 - 1 / np.log2(np.arange(ranked.shape[1]) + 2)
    wanted = np.array([[item in wants for item in row] for row, wants in zip(ranked.tolist(), shop.wants, strict=True)])
    return 1 - np.prod(np.where(wanted, unseen, 1.0), axis=1)


def compared(shop: Shop, control: np.ndarray, treatment: np.ndarray, k: int, draws: int) -> list[str]:
    """A row of the table."""
    toss = np.random.default_rng(1)
    pairs = list(zip(control.tolist(), treatment.tolist(), shop.wants, strict=True))

    def ours() -> Iterator[tuple[Sequence[int], dict[int, float], set[int]]]:
        for one, other, wants in pairs:
            for first in ("control", "treatment"):
                found = interleave(one, other, k, first)
                yield found.items, found.credits, wants

    def drafted() -> Iterator[tuple[Sequence[int], dict[int, float], set[int]]]:
        for one, other, wants in pairs:
            for _ in range(TOSSES):
                teams = team_draft(one, other, k, toss)
                yield list(teams), teams, wants

    chances = [conversion(shop, ranked) for ranked in (control, treatment)]
    win, loss = verdicts(ours(), draws)
    share, people = win / (win + loss), sign_test(win, loss)
    most = int(4 * people * (win + loss)) // EVERY * EVERY + EVERY
    always = at_any_look(share if share > 0.5 else 1 - share, most)[0] / (win + loss)
    contended = np.mean([len(interleave(one, other, k, "control").credits) / k for one, other, _ in pairs])
    draft = sign_test(*verdicts(drafted(), max(1, 2 * draws // TOSSES)))
    total = ab_test(chances)
    shares = [f"{100 * chance.mean():.1f} %" for chance in chances]
    needed = [f"{number:,.0f}" for number in (total, people, draft, always)]
    return [*shares, f"{100 * contended:.0f} %", f"{share:.3f}", *needed]


def looks(console: Console) -> None:
    """What looking all the time costs, against one look."""
    table = Table("of those who prefer an arm, for the better one", "one look", "at any look", "on average over after")
    for share in (0.7, 0.6, 0.56, 0.53):
        once = sign_test(share, 1 - share)
        within, mean = at_any_look(share, int(5 * once) // EVERY * EVERY)
        table.add_row(f"{share:.2f}", f"{once:,.0f}", f"{within / once:.2f} ×", f"{mean / once:.2f} ×")
    console.print(table)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--looks", action="store_true")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--draws", type=int, default=40)
    said = parser.parse_args()
    console = Console(width=160)
    if said.looks:
        looks(console)
    if said.folder is None:
        return
    shop = read(said.folder)
    ranked = {name: lists(shop, make(), said.k) for name, make in models(shop).items()}
    table = Table("lists", title=f"{len(shop.wants):,} people")
    for name in ("control", "treatment"):
        table.add_column(f"buy, {name}", justify="right")
    for name in ("contended", "for treatment", "A/B", "interleaving", "team draft", "interleaving, any look"):
        table.add_column(name, justify="right")
    for control, treatment in COMPARED:
        row = compared(shop, ranked[control], ranked[treatment], said.k, said.draws)
        table.add_row(f"{control} → {treatment}", *row)
    console.print(table)


if __name__ == "__main__":
    main()
