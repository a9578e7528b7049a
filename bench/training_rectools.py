"""RecTools' side of `training.py`, for an environment with RecTools: its SASRec, an epoch whenever it is its turn.

    python bench/training_rectools.py FOLDER

Everything that the plan leaves open is RecTools' default: full softmax (its sampled one gathers the vectors of other
items for each position; 64 of them took about as long on MovieLens-1M), Adam, batches made in the same process.
"""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from turns import tell, wait

PRECISION = {"own": "32-true", "float32": "32-true", "bfloat16": "bf16-mixed"}


class InTurns(Callback):
    """Lets an epoch wait for its turn, and counts the positions that have a target."""

    def __init__(self, began: float) -> None:
        self.began = began

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            seconds = perf_counter() - self.began
            tell(preparation=seconds, precision=trainer.precision, threads=torch.get_num_threads())
        wait()
        self.positions, self.began = 0, perf_counter()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        self.positions += int((batch["y"] != 0).sum())

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        tell(seconds=perf_counter() - self.began, positions=self.positions)


def read(folder: Path) -> pd.DataFrame:
    names = {"user": Columns.User, "item": Columns.Item, "timestamp": Columns.Datetime}
    log = pd.read_parquet(folder / "interactions.parquet", columns=list(names)).rename(columns=names)
    return log.assign(**{Columns.Datetime: pd.to_datetime(log[Columns.Datetime], unit="s"), Columns.Weight: 1})


def model_of(plan: dict[str, Any], callbacks: list[Callback]) -> SASRecModel:
    model = SASRecModel(
        n_factors=plan["dim"],
        n_blocks=plan["blocks"],
        n_heads=plan["heads"],
        session_max_len=plan["history"],
        dropout_rate=plan["dropout"],
        batch_size=plan["batch"],
        epochs=plan["epochs"],
    )
    # As the model makes it, but for the callbacks and the precision; assigning it is the documented way.
    model._trainer = Trainer(
        max_epochs=plan["epochs"],
        min_epochs=plan["epochs"],
        precision=PRECISION[plan["precision"]],
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        enable_checkpointing=False,
        devices=1,
    )
    return model


def vectors_of(
    model: SASRecModel, log: pd.DataFrame, users: int, items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of the users 0 to ``users`` and of the items 0 to ``items``, and which items the model knows.

    Zeros stand for an item that it does not know, and for a user who had nothing else.
    """
    known = model.data_preparator.get_known_item_ids().astype(np.int64)
    dataset = model.data_preparator.transform_dataset_u2i(Dataset.construct(log), log[Columns.User].unique())
    batches = model.data_preparator.get_dataloader_recommend(dataset, 256)
    user_side, item_side = model.lightning_model._get_user_item_embeddings(batches, None)
    found = np.zeros((users, user_side.shape[1]), np.float32), np.zeros((items, item_side.shape[1]), np.float32)
    found[0][dataset.user_id_map.external_ids.astype(np.int64)] = user_side.float().numpy()
    found[1][known] = item_side[model.data_preparator.n_item_extra_tokens :].float().cpu().numpy()
    return *found, np.isin(np.arange(items), known)


def main(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text("utf-8"))
    torch.manual_seed(0)
    model = model_of(plan, [InTurns(perf_counter())])
    model.fit(Dataset.construct(read(folder / "training")))
    if plan["rank"]:
        wait()
        users = {}
        for cases in ("validation", "test"):
            users[cases], items, known = vectors_of(model, read(folder / cases), plan[cases], plan["items"])
        np.savez(folder / "RecTools.npz", items=items, known=known, **users)
        tell()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
