"""What a preview of rules takes: ``python bench/preview.py --workspace .molar --field year --per genres``.

For each kind of rules the CPU and wall seconds of the first preview of 500 people and of another one after it, and
whether the lists of 50 of them are those of single answers.
"""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from molar_indexes.answerer import Answerer
from molar_indexes.comparison import Compared, lists_by, previewed, sample
from molar_indexes.recommender import Recommender
from molar_retrieval.ranking.query import Query


def kinds(item: str, field: str, least: float, per: str) -> dict[str, list[dict[str, Any]]]:
    """Rules by what they are."""
    every: dict[str, list[dict[str, Any]]] = {
        "pin": [{"pin": [item]}],
        "boost": [{"boost": f"{field} >= {least}", "by": 0.5}],
        "require": [{"require": f"{field} >= {least}"}],
        "at most": [{"at_most": 2, "per": per}],
    }
    return every | {"all of them": [rule for rules in every.values() for rule in rules]}


def different(answerer: Answerer, rules: dict[str, Any], people: int) -> int:
    """How many people's lists are not those of single answers."""
    now, query, ruled = datetime.now(UTC), Query(k=10, explore=False), answerer.ruled_by(rules)
    keys = sample(answerer.generation.users, people)
    (lists,) = lists_by([ruled], keys, now, Compared())
    users = [user for key in keys if (user := answerer.generation.users.keyed(key)) is not None]
    single = [next(ruled.rank_many([user], query, now)) for user in users]
    pairs = zip(users, single, strict=True)
    return sum([p.row for p in one.places] != [i.row for i in lists[user.user_id].items] for user, one in pairs)


def main() -> None:
    """Print a line for each kind of rules."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workspace", type=Path, required=True)
    options.add_argument("--field", default="year", help="of numbers")
    options.add_argument("--least", type=float, default=1990)
    options.add_argument("--per", default="genres", help="a field of words")
    options.add_argument("--people", type=int, default=500)
    given = options.parse_args()
    print("| rules | first: CPU s | wall s | again: CPU s | wall s | lists changed | of 50, unlike single answers |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with Recommender.open(given.workspace) as recommender, recommender.answering() as answerer:
        item = answerer.generation.table.item_id(0)
        for kind, rules in kinds(item, given.field, given.least, given.per).items():
            known, cells = Compared(), []
            for _ in range(2):
                cpu, wall = time.process_time(), time.perf_counter()
                found = previewed(answerer, None, {"rule": rules}, people=given.people, known=known)
                cells += [f"{time.process_time() - cpu:.2f}", f"{time.perf_counter() - wall:.2f}"]
            unlike = different(answerer, {"rule": rules}, 50)
            print(f"| {kind} | {' | '.join(cells)} | {found.lists.changed} | {unlike} |", flush=True)


if __name__ == "__main__":
    main()
