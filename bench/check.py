"""Faults planted at known places, and how many of them `molar check` finds there and only there.

    python bench/check.py [CATALOGUE] [--each 8] [--seeds 3] [--vectors WORKSPACE] [--name NAME] [--write]

Without a catalogue, the demo shop, and beside it the log of `bench/log_faults.py` with its own faults. Precision counts
every finding of a kind that the catalogue as it was did not have.

--vectors names a workspace with vectors of the catalogue by the built-in encoder: photos are then exchanged among its
items, at random and within a group, and the check says how well it tells them (area under the ROC curve). --write puts
the figures where `docs/write_results.py` finds them.
"""

import argparse
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import faults
import log_faults
import numpy as np
import pyarrow.parquet as pq

from molar_retrieval import __version__, rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.demo import write_demo_shop
from molar_retrieval.quality import photo_text
from molar_retrieval.quality.check import check
from molar_retrieval.quality.findings import Severity
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

RESULTS = Path(__file__).resolve().parents[1] / "eval" / "results" / "check"
SHARE = 0.02
"""Share of the items whose photos are exchanged."""
Keys = dict[str, set[str]]


def looked_at(folder: Path, root: Path) -> tuple[Keys, float]:
    """The items, or columns, of each kind of fault that a check finds; and how long it took."""
    fix_list = root.with_suffix(".parquet")
    workspace, settings = Workspace.for_catalogue(root, folder), MolarSettings.load(root.parent, environ={})
    started = perf_counter()
    check(folder, workspace, settings, fix_list=fix_list)
    seconds = perf_counter() - started
    found: Keys = {}
    for row in pq.read_table(fix_list).to_pylist():
        found.setdefault(row["kind"], set()).add(row["item_id"] or row["column"] or "")
    return found, seconds


def errors(root: Path) -> set[str]:
    """Items with an error."""
    table = pq.read_table(root.with_suffix(".parquet"))
    return {r["item_id"] for r in table.to_pylist() if r["severity"] == Severity.ERROR and r["item_id"]}


def planted(catalogue: Path, each: int, seeds: int) -> dict[str, Any]:
    """Plant, check and count, several times with other items."""
    counts: dict[str, list[int]] = {}
    seconds, again, clean_errors, clean_items = 0.0, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        before, _ = looked_at(catalogue, Path(place) / "clean")
        n = pq.read_metadata(catalogue / "items.parquet").num_rows
        clean_errors, clean_items = len(errors(Path(place) / "clean")), n
        for seed in range(seeds):
            shop = faults.Shop.copy(catalogue, Path(place) / f"shop{seed}", seed=seed, each=each)
            wanted = {kind: set(plant(shop)) for kind, plant in faults.PLANTERS.items()}
            shop.write()
            found, took = looked_at(shop.folder, Path(place) / f"planted{seed}")
            _, took_again = looked_at(shop.folder, Path(place) / f"planted{seed}")
            seconds, again = seconds + took, again + took_again
            for kind, own in wanted.items():
                new = found.get(kind, set()) - (before.get(kind, set()) - own)
                for other in faults.BRINGS.get(kind, ()):
                    new -= wanted[other] - own
                tally = counts.setdefault(kind, [0, 0, 0])
                tally[0] += len(own)
                tally[1] += len(own & new)
                tally[2] += len(new - own)
    return {
        "kinds": {
            kind: {
                "planted": own,
                "found": right,
                "wrong": wrong,
                "precision": right / (right + wrong) if right + wrong else None,
                "recall": right / own if own else None,
            }
            for kind, (own, right, wrong) in counts.items()
        },
        "clean_items": clean_items,
        "clean_items_with_errors": clean_errors,
        "seconds": round(seconds / seeds, 2),
        "seconds_again": round(again / seeds, 2),
    }


def auc(wrong: np.ndarray, right: np.ndarray) -> float:
    """How often a wrong pair fits worse than a right one."""
    order = np.concatenate([wrong, right]).argsort(kind="stable").argsort()
    above = order[len(wrong) :].sum() - len(right) * (len(right) - 1) / 2
    return float(above / len(wrong) / len(right))


def exchanged(workspace: Path, group: str | None, seeds: int) -> dict[str, Any]:
    """Exchange the vectors of some photos in pairs, and see how well the pairs are told."""
    place = Workspace.open(workspace)
    version, _ = place["catalogue"].require()
    catalogue = Catalogue.open(version)
    found = photo_text.stored_vectors(place, catalogue)
    if found is None:
        raise SystemExit(
            f"{workspace} has no vectors of its catalogue by a built-in encoder: molar check --with-embeddings"
        )
    both = np.flatnonzero((np.abs(found.images).max(axis=1) > 0) & (np.abs(found.texts).max(axis=1) > 0))
    groups = None if group is None else pq.read_table(version / "items.parquet", columns=[group])[group].to_pylist()
    out: dict[str, Any] = {"encoder": found.encoder, "items": len(both), "share": SHARE}
    for name, values in (("any", None), *((("within a group", groups),) if groups else ())):
        rows = []
        for seed in range(seeds):
            rows.append(_exchange(found, both, values, seed))
        out[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        if name != "any":
            out[name]["group"] = group
    return out


def _exchange(found: photo_text.PairVectors, both: np.ndarray, groups: list[Any] | None, seed: int) -> dict[str, float]:
    random = rng.generator(seed, "exchange")
    mixed = random.permutation(both)
    if groups is not None:
        mixed = mixed[np.argsort([str(groups[row]) for row in mixed], kind="stable")]
    pairs = [(a, b) for a, b in zip(mixed[::2], mixed[1::2], strict=False) if groups is None or groups[a] == groups[b]]
    chosen = random.permutation(len(pairs))[: int(SHARE * len(both) / 2)]
    order = np.arange(len(found.images))
    for place in chosen:
        a, b = pairs[place]
        order[a], order[b] = b, a
    images = np.asarray(found.images)[order]
    agreement = photo_text.agreement(images, found.texts)
    assert agreement is not None
    wrong = order[agreement.rows] != agreement.rows
    below = agreement.fit < agreement.limit
    told = {frozenset((int(agreement.rows[a]), int(agreement.rows[b]))) for a, b, _ in photo_text.swapped(agreement)}
    own = {frozenset(map(int, pairs[place])) for place in chosen}
    # The built-in encoder puts the meaning of a photo into the space of the words: the likeness that needs no learning.
    meaning = images[agreement.rows, : found.texts.shape[1]]
    words = np.asarray(found.texts)[agreement.rows]
    lengths = np.linalg.norm(meaning, axis=1) * np.linalg.norm(words, axis=1)
    asked = np.einsum("nd,nd->n", meaning, words) / lengths
    return {
        "auc": auc(agreement.fit[wrong], agreement.fit[~wrong]),
        "auc_asked_directly": auc(asked[wrong], asked[~wrong]),
        "exchanged": float(wrong.sum()),
        "pointed_out": float(below.sum()),
        "pointed_out_right": float((below & wrong).sum()),
        "pairs_named": float(len(told)),
        "pairs_named_right": float(len(told & own)),
    }


def in_the_log(seeds: int) -> dict[str, Any]:
    """The same figures for the faults of a log."""
    return {
        kind: {
            "planted": score.found + score.missed,
            "found": score.found,
            "wrong": score.wrong,
            "precision": score.precision if score.found + score.wrong else None,
            "recall": score.recall if score.found + score.missed else None,
        }
        for kind, score in log_faults.measure(seeds).items()
    }


def measure(catalogue: Path, name: str, each: int, seeds: int, workspace: Path | None, group: str | None) -> dict:
    result: dict[str, Any] = {"name": name, "made": datetime.now(UTC).date().isoformat(), "molar": __version__}
    result |= {"each": each, "seeds": seeds, "cores": os.cpu_count(), **planted(catalogue, each, seeds)}
    if workspace is not None:
        result["pairs"] = exchanged(workspace, group, seeds)
    return result


def told(result: dict[str, Any]) -> None:
    print(f"{'kind':28s} planted  found  wrong  precision  recall")
    for kind, row in result["kinds"].items():
        shares = [("–" if row[key] is None else f"{row[key]:.3f}") for key in ("precision", "recall")]
        print(f"{kind:28s} {row['planted']:7d} {row['found']:6d} {row['wrong']:6d} {shares[0]:>10s} {shares[1]:>7s}")
    print(f"clean items with an error: {result['clean_items_with_errors']} of {result['clean_items']}")
    print(f"a check takes {result['seconds']:.1f} s, the next one {result['seconds_again']:.1f} s")
    for key, value in result.get("pairs", {}).items():
        print(f"pairs, {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path, nargs="?")
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", type=Path, metavar="WORKSPACE")
    parser.add_argument("--group", help="column within whose values photos are exchanged")
    parser.add_argument("--name")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}/NAME.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        catalogue = given.catalogue or Path(place) / "shop"
        if given.catalogue is None:
            write_demo_shop(catalogue)
        name = given.name or (given.catalogue.name if given.catalogue else "demo shop")
        result = measure(catalogue, name, given.each, given.seeds, given.vectors, given.group)
        if given.catalogue is None:
            result["kinds"] |= in_the_log(given.seeds)
    told(result)
    if given.write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name.replace(' ', '-')}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
