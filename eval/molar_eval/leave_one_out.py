"""Leave-one-out check of the whole: the last item of each user is the test, the one before chooses the epoch.

Everything that is fitted sees neither: the log is cut before the test item in a workspace of its own, and `align` holds
out the then last item for validation. The input for the test item includes the validation item. Items are ranked
by the same code path as `molar query`, among the whole catalogue, seen ones hidden; nothing is sampled. Leave-one-out
lets training see interactions of others that lie later in time; a temporal split is stricter.

    python -m molar_eval --data path/to/catalogue --workspace .work/eval
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from molar_eval.metrics import ndcg, recall
from molar_indexes.assemble import publish_generation
from molar_indexes.recommender import Recommender
from molar_retrieval.alignment.align import align
from molar_retrieval.alignment.checkpoint import EpochScore
from molar_retrieval.alignment.validation import Cases, Part, ranks
from molar_retrieval.catalog import prepare_catalogue
from molar_retrieval.collaborative.factors import open_factors, open_log
from molar_retrieval.config import MolarSettings
from molar_retrieval.demo import write_demo_shop
from molar_retrieval.embedding import embed
from molar_retrieval.interactions import InteractionLog, prepare_interactions, write_log
from molar_retrieval.workspace import Workspace

CUTOFFS = (10, 20)


@dataclass(frozen=True)
class Result:
    """Ranks of the test items under each model, and what the run took.

    Attributes:
        ranks: By model, one rank per case; 0: not among the first 20.
        cases: Number of test cases.
        seconds: By step.
    """

    ranks: dict[str, npt.NDArray[np.int64]]
    cases: int
    seconds: dict[str, float]


def leave_one_out(data: Path, root: Path, settings: MolarSettings, console: Console) -> Result:
    """Run the check on the catalogue folder ``data`` with workspaces under ``root``."""
    seconds = {}
    began = time.perf_counter()
    whole = Workspace.for_catalogue(root / "whole", data)
    prepare_catalogue(data, whole)
    prepare_interactions(data, whole)
    embed(whole, settings.embed)
    seconds["embed"] = time.perf_counter() - began
    cut = _cut_workspace(whole, root / "leave-one-out")
    log = open_log(whole)
    users = np.flatnonzero(np.diff(log.offsets) >= 3)
    targets = log.item[log.offsets[users + 1] - 1]
    fresh = np.array([t not in log.history(int(u))[:-1] for u, t in zip(users, targets, strict=True)], bool)
    users, targets = users[fresh], targets[fresh]
    began = time.perf_counter()
    align(cut, settings, on_epoch=lambda score: _tell(console, score))
    publish_generation(cut, settings.index)
    seconds["align"] = time.perf_counter() - began
    began = time.perf_counter()
    ours = _ask(cut, log, users, targets)
    seconds["queries"] = time.perf_counter() - began
    return Result({"molar": ours, **_baselines(cut, users, targets)}, len(users), seconds)


def _cut_workspace(whole: Workspace, root: Path) -> Workspace:
    """A workspace with the same catalogue and content, and the log without each user's last interaction."""
    root.mkdir(parents=True, exist_ok=True)
    cut = Workspace.for_catalogue(root, whole.catalogue)
    for kind in ("catalogue", "content"):
        if not (root / kind).exists():
            (root / kind).symlink_to((whole.root / kind).resolve())
    log = open_log(whole)
    last = np.zeros(len(log.item), bool)
    last[log.offsets[1:][np.diff(log.offsets) >= 3] - 1] = True
    write_log(cut, log.select(~last), {"catalogue": whole["catalogue"].require()[1].fingerprint})
    return cut


def _ask(
    workspace: Workspace, log: InteractionLog, users: npt.NDArray[np.int64], targets: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """The place of each target in the answer for its user; 0 where it is not in it."""
    places = np.zeros(len(users), np.int64)
    wanted = log.items.ids(targets)
    with Recommender.open(workspace.root) as recommender:
        for case, user_id in enumerate(log.users.ids(users)):
            answer = recommender.query(user_id, max(CUTOFFS))
            places[case] = next((i.rank for i in answer.items if i.item_id == wanted[case]), 0)
    return places


def _baselines(
    workspace: Workspace, users: npt.NDArray[np.int64], targets: npt.NDArray[np.int32]
) -> dict[str, npt.NDArray[np.int64]]:
    log = open_log(workspace)
    cases = Cases(log, users, targets.astype(np.int64), np.ones(log.n_items, bool))
    counts = np.bincount(log.item, minlength=log.n_items).astype(np.float32)
    factors = open_factors(workspace["cf"].require()[0])
    popularity = Part(np.ones((len(users), 1), np.float32), counts[:, None])
    return {
        "popularity": ranks(cases, [popularity], [(1.0,)])[0],
        "ALS": ranks(cases, [Part(factors.users[users], factors.items)], [(1.0,)])[0],
    }


def _tell(console: Console, score: EpochScore) -> None:
    console.print(
        f"epoch {score.epoch:>3}  loss {score.loss:.3f}  validation NDCG@10 {score.ndcg:.4f}"
        f"  (collaborative {score.collaborative:.4f}, content {score.content:.4f})  {score.seconds:.0f} s",
        soft_wrap=True,
    )


def main() -> None:
    """Run the check and print its table."""
    parser = argparse.ArgumentParser(prog="python -m molar_eval", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="catalogue folder; default: the demo shop")
    parser.add_argument("--workspace", type=Path, required=True, help="where results go")
    parser.add_argument("--settings", type=Path, help="a molar.toml")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    data = arguments.data
    if data is None:
        data = arguments.workspace / "shop"
        write_demo_shop(data)
    settings = MolarSettings.load(arguments.workspace, file=arguments.settings)
    result = leave_one_out(data, arguments.workspace, settings, console)
    title = f"leave-one-out on {data.name}: {result.cases:,} cases, all items ranked, seen ones hidden"
    console.print(title, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    for name in (f"{metric}@{k}" for metric in ("NDCG", "Recall") for k in CUTOFFS):
        table.add_column(name, justify="right")
    for name, places in result.ranks.items():
        table.add_row(name, *(f"{metric(places, k):.4f}" for metric in (ndcg, recall) for k in CUTOFFS))
    console.print(table)
    console.print("time: " + ", ".join(f"{name} {value:.0f} s" for name, value in result.seconds.items()))
