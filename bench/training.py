"""Training speed of molar's collaborative tower beside RecTools' SASRec, epoch by epoch in turns on the same log.

    python bench/training.py [--data CATALOGUE] [--epochs 3] [--quality N] [--users N] [--precision own] [--json]

Both get the training interactions of the leave-one-out split, equal width, blocks and history, and all cores; while one
works the other sleeps. RecTools has an environment of its own, made at the first run. An epoch is training alone,
without validation; the median counts. Compared are target positions a second, padding left out: in an epoch RecTools
sees the last 200 targets of each user, molar all of them. With ``--quality N`` both train for N epochs, and the vectors
after the last are ranked by the full ranking of `molar evaluate`, seen items hidden; an item that a model has not been
trained on is a miss. Each takes the precision that it would pick by itself (molar bfloat16 where the processor
multiplies it, RecTools float32), or both take one. A busy machine spoils all of this.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rectools_environment import NotInstallableError, make
from turns import Player, PlayerLostError

from molar_eval.cases import Cases
from molar_eval.metrics import accuracy
from molar_eval.ranking import rank_vectors
from molar_eval.splits import Split, leave_one_out
from molar_retrieval import rng
from molar_retrieval.data.demo import write_demo_shop
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions, write_tables
from molar_retrieval.models.als import open_log
from molar_retrieval.workspace.artefacts import Workspace

HERE = Path(__file__).resolve().parent
TARGET = 6
OURS, THEIRS = "molar", "RecTools"
SIDES = {OURS: "training_molar.py", THEIRS: "training_rectools.py"}
METRIC = "ndcg@10"
BUSY = 0.5


@dataclass(frozen=True)
class Plan:
    """What both sides train; heads and batch are RecTools' alone, as molar derives its own from width and log."""

    epochs: int = 3
    rank: bool = False
    precision: str = "own"
    dim: int = 64
    blocks: int = 2
    history: int = 200
    dropout: float = 0.2
    heads: int = 1
    batch: int = 128


def read_log(data: Path, users: int | None) -> Interactions:
    """A catalogue's log as molar prepares it, or that of some of its users."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.for_catalogue(Path(folder), data)
        prepare_catalogue(data, workspace)
        prepare_interactions(data, workspace)
        log = open_log(workspace)
    if users is None or users >= log.n_users:
        return log
    return log.of_users(np.sort(rng.generator(0, "bench", "users").choice(log.n_users, users, replace=False)))


def cases_of(split: Split) -> dict[str, Cases]:
    return {"validation": split.validation, "test": next(iter(split.tests.values()))}


def write(split: Split, plan: Plan, folder: Path) -> None:
    """The logs and the plan as both sides read them: users and items by row, a "user" per case in the inputs."""
    cases = cases_of(split)
    for name, log in {"training": split.training, **{name: cases[name].inputs() for name in cases}}.items():
        (folder / name).mkdir()
        write_tables(log, folder / name)
    counts = {"items": split.history.n_items, **{name: len(cases[name]) for name in cases}}
    (folder / "plan.json").write_text(json.dumps(asdict(plan) | counts), "utf-8")


def measure(split: Split, plan: Plan, interpreters: dict[str, Path]) -> dict[str, Any]:
    """What each side tells, by its name.

    Args:
        split: Trained are its training interactions; its cases are ranked if the plan says so.
        plan: Sizes and epochs.
        interpreters: Of the sides that are to train.

    Raises:
        PlayerLostError: If a side fails.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write(split, plan, folder)
        players: dict[str, Player] = {}
        sides: dict[str, dict[str, Any]] = {}
        for side, python in interpreters.items():
            command = [python, HERE / SIDES[side], folder]
            players[side] = stack.enter_context(Player(side, command, folder / f"{side}.log"))
            sides[side] = players[side].hear()
        rounds = [{side: player.turn() for side, player in players.items()} for _ in range(plan.epochs)]
        for side, facts in sides.items():
            facts["seconds"] = [told[side]["seconds"] for told in rounds]
            facts["positions"] = rounds[0][side]["positions"]
            facts["positions_per_second"] = facts["positions"] / statistics.median(facts["seconds"])
            if plan.rank:
                players[side].turn()
                facts[METRIC] = quality(split, folder / f"{side}.npz")
    return sides


def quality(split: Split, vectors: Path) -> dict[str, float]:
    """Mean NDCG@10 of the validation and of the test cases, under our full ranking."""
    found = {}
    with np.load(vectors) as arrays:
        for name, cases in cases_of(split).items():
            ranked = rank_vectors(cases, arrays[name], arrays["items"], k=10, candidates=arrays["known"])
            gains = accuracy(ranked.ranks, cases.offsets, [10])[METRIC]
            found[name] = float(gains.mean(dtype=np.float64)) if len(cases) else 0.0
    return found


def report(split: Split, plan: Plan, sides: dict[str, Any], missing: str | None) -> dict[str, Any]:
    log = split.training
    speed = [sides[side]["positions_per_second"] for side in (OURS, THEIRS) if side in sides]
    return {
        "users": log.n_users,
        "items": int(np.count_nonzero(np.bincount(log.item))),
        "training_interactions": len(log),
        "plan": asdict(plan),
        "sides": sides,
        "missing": missing,
        "ratio": speed[0] / speed[1] if len(speed) == 2 else None,
        "target": TARGET,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """What, measured, compared to, ratio."""
    ours, theirs = result["sides"][OURS], result["sides"].get(THEIRS)

    def row(what: str, form: str, *keys: str) -> tuple[str, str, str, str]:
        values = [_value(side, keys) for side in (ours, theirs) if side is not None]
        shown = [format(value, form) for value in values]
        ratio = f"{values[0] / values[1]:.3g}" if len(values) == 2 and values[1] else ""
        return what, shown[0], f"{THEIRS}' SASRec {shown[1]}" if len(shown) == 2 else "", ratio

    found = [
        row("train, target positions/s", ",.0f", "positions_per_second"),
        row("  an epoch, s", ".2f", "seconds"),
        row("  target positions of an epoch", ",", "positions"),
        row("  before the first epoch, s", ".2f", "preparation"),
    ]
    if METRIC in ours:
        epochs = result["plan"]["epochs"]
        found += [row(f"  {name} NDCG@10 after {epochs} epochs", ".4f", METRIC, name) for name in ours[METRIC]]
    return found


def _value(side: dict[str, Any], keys: Sequence[str]) -> float:
    value: Any = side
    for key in keys:
        value = value[key]
    return statistics.median(value) if isinstance(value, list) else value


def show(result: dict[str, Any]) -> None:
    sides = (f"{side} on {facts['threads']} threads in {facts['precision']}" for side, facts in result["sides"].items())
    size = f"{result['users']:,} users, {result['items']:,} items, {result['training_interactions']:,} interactions"
    print(f"{result['data']}: {size} to train on; {', '.join(sides)}")
    for what, measured, other, ratio in rows(result):
        print(f"{what:36} {measured:>10}   {other:32} {ratio}".rstrip())
    if result["missing"]:
        print(f"{THEIRS} cannot be installed here, so there is nothing to compare to: {result['missing']}")
    else:
        print(f"target for the first line: a ratio of {result['target']} on MovieLens-1M with 2 idle cores")
    if result["load"] > BUSY:
        print(f"other work kept {result['load']:.1f} cores busy when this began: the figures mean little")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a catalogue with interactions; without it, the demo shop")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each, where quality is not asked for")
    parser.add_argument("--quality", type=int, metavar="N", help="train N epochs each and rank what came of them")
    parser.add_argument("--users", type=int, help="only this many users, drawn at random")
    parser.add_argument("--precision", choices=("own", "float32", "bfloat16"), default="own")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"there is no catalogue {arguments.data}")
    load = os.getloadavg()[0]
    interpreters, missing = {OURS: Path(sys.executable)}, None
    try:
        interpreters[THEIRS] = make()
    except NotInstallableError as error:
        missing = str(error)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "demo"
        if arguments.data is None:
            write_demo_shop(data)
        split = leave_one_out(read_log(data, arguments.users))
    plan = Plan(arguments.quality or arguments.epochs, arguments.quality is not None, arguments.precision)
    try:
        result = report(split, plan, measure(split, plan, interpreters), missing)
    except PlayerLostError as error:
        raise SystemExit(str(error)) from error
    result |= {"data": data.name, "cores": os.cpu_count(), "load": load}
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
