"""Molar's side of `training.py`: its ID tower alone, an epoch whenever it is its turn.

    python bench/training_molar.py FOLDER

Timed is what `molar align` calls an epoch: batches, forward, backward, steps. There are no validation cases, so that
nothing is ranked between epochs, and the weights are those after the last one.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from turns import tell, wait

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import fit
from molar_retrieval.models.towers.training import TowerTrainer, TrainingData, sized
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.models.vectors import encode_users, item_sides
from molar_retrieval.workspace.settings import AlignSettings, ALSSettings
from molar_retrieval.workspace.threads import keep_freed_memory, limit_spinning

TOWER = "id_tower"
PRECISION = {"own": "auto"}


class InTurns:
    """Hears of an epoch's beginning, its positions and its end; the beginning waits for the turn."""

    def start(self, task: str, total: int | None) -> None:
        wait()
        self.positions, self.began = 0, perf_counter()

    def advance(self, n: int = 1) -> None:
        self.positions += n

    def note(self, message: str) -> None: ...

    def finish(self) -> None:
        tell(seconds=perf_counter() - self.began, positions=self.positions)


def trainer_of(log: Interactions, plan: dict[str, Any]) -> TowerTrainer:
    settings = AlignSettings(
        models=(TOWER,),
        embedding_dim=plan["dim"],
        n_blocks=plan["blocks"],
        max_history=plan["history"],
        dropout=plan["dropout"],
        epochs=plan["epochs"],
        precision=PRECISION.get(plan["precision"], plan["precision"]),
    )
    nobody = np.zeros(0, np.int64)
    cases = ValidationCases(log, nobody, nobody, np.ones(log.n_items, bool), nobody)
    features = np.zeros((log.n_items, 1), np.float32)  # the content tower, which would read them, is left out
    data = TrainingData(log, cases, features, fit(log, ALSSettings()))
    return TowerTrainer(data, sized(settings, log), "benchmark")


def main(folder: Path) -> None:
    limit_spinning()
    keep_freed_memory()
    began = perf_counter()
    plan = json.loads((folder / "plan.json").read_text("utf-8"))
    items = IdMap([str(row) for row in range(plan["items"])])
    trainer = trainer_of(Interactions.open(folder / "training", items), plan)
    seconds = perf_counter() - began
    tell(preparation=seconds, precision=trainer.precision, threads=torch.get_num_threads())
    for _ in range(plan["epochs"]):
        trainer.round(InTurns())
    if plan["rank"]:
        wait()
        network, known = trainer.network, trainer.data.warm
        vectors = {"items": item_sides(network, known)[TOWER], "known": known}
        for cases in ("validation", "test"):
            log = Interactions.open(folder / cases, items)
            rows = np.arange(log.n_users)
            vectors[cases] = encode_users(network, log, rows, precision=trainer.precision)[TOWER]
        np.savez(folder / "molar.npz", **vectors)
        tell()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
