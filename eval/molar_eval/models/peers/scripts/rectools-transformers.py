"""RecTools' SASRec, BERT4Rec and HSTU, epoch by epoch until validation no longer rises."""

import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from exchange import Exchange, Histories
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, HSTUModel, SASRecModel

MODELS = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel, "HSTU": HSTUModel}


def table(histories: Histories) -> pd.DataFrame:
    """As RecTools has it: equal times stay in their order, as its sorting is stable."""
    when = pd.to_datetime(histories.timestamp, unit="s")
    columns = {Columns.User: histories.row, Columns.Item: histories.item, Columns.Weight: 1.0, Columns.Datetime: when}
    return pd.DataFrame(columns)


def scores(module: LightningModule, histories: Histories, n_items: int) -> np.ndarray:
    """Of all items for each history; zeros where a history has no item that the model knows."""
    found, prepared = np.zeros((len(histories), n_items), np.float32), module.data_preparator
    known = prepared.get_known_item_ids().astype(np.int64)
    rows = np.unique(histories.row[np.isin(histories.item, known)])
    if not len(rows):
        return found
    context = None
    if prepared.add_unix_ts:  # a model that reads times is told when it is asked
        when = pd.to_datetime(histories.asked_at[rows], unit="s")
        context = pd.DataFrame({Columns.User: rows, Columns.Weight: 0.0, Columns.Datetime: when})
    dataset = prepared.transform_dataset_u2i(Dataset.construct(table(histories)), rows, context)
    users, items = module._get_user_item_embeddings(prepared.get_dataloader_recommend(dataset, 256), None)
    given = items[prepared.n_item_extra_tokens :].float().cpu().numpy()
    place = dataset.user_id_map.external_ids.astype(np.int64)
    found[np.ix_(place, known)] = users.float().numpy() @ given.T
    return found


class JudgedEpochs(Callback):
    """Has every epoch judged, keeps the best weights, and stops when they have not been beaten for a while."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange, self.epochs, self.best = exchange, [], {}

    def __deepcopy__(self, memo: dict) -> "JudgedEpochs":  # RecTools copies its trainer
        return self

    def state_dict(self) -> dict:
        return {"epochs": self.epochs, "best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.epochs, self.best = state["epochs"], state["best"]

    @property
    def best_epoch(self) -> int:
        return 1 + int(np.argmax([epoch["ndcg"] for epoch in self.epochs]))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.began = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        ndcg = self.exchange.judged(scores(module, self.exchange.validation, self.exchange.n_items))
        module.train()
        self.epochs.append({"ndcg": ndcg, "seconds": perf_counter() - self.began})
        if self.best_epoch == len(self.epochs):
            self.best = {name: values.clone() for name, values in module.state_dict().items()}
        trainer.should_stop = len(self.epochs) - self.best_epoch >= self.exchange.options["patience"]


class Resuming(Trainer):
    """Goes on after the last whole epoch."""

    last = Path()

    def fit(self, model: LightningModule, *loaders: object) -> None:
        super().fit(model, *loaders, ckpt_path=self.last if self.last.exists() else None)


def main(folder: Path) -> None:
    exchange = Exchange(folder)
    seed_everything(exchange.seed)
    judged, Resuming.last = JudgedEpochs(exchange), folder / "last.ckpt"

    def trainer() -> Trainer:
        keep = ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)
        return Resuming(
            max_epochs=exchange.options["epochs"],
            callbacks=[judged, keep],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            devices=1,
        )

    kind, given = exchange.options["model"], exchange.options["settings"]
    model = MODELS[kind](**given, epochs=exchange.options["epochs"], get_trainer_func=trainer)
    model.fit(Dataset.construct(table(exchange.training)))
    module = model.lightning_model
    module.load_state_dict(judged.best)
    exchange.answer(
        lambda histories: scores(module, histories, exchange.n_items),
        best_epoch=judged.best_epoch,
        epochs=judged.epochs,
        fit_seconds=sum(epoch["seconds"] for epoch in judged.epochs),
        versions={name: version(name) for name in ("rectools", "torch", "pytorch-lightning")},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
