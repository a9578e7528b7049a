"""RecBole's sequential models, by its own trainer; validation is ours."""

import functools
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from exchange import Exchange, PeerHistories
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed

# Its checkpoints hold its own settings beside the weights; they are read where they were written.
torch.load = functools.partial(torch.load, weights_only=False)


def settings(exchange: Exchange) -> Config:
    """Everything but what the options say, and where things lie, is RecBole's default."""
    fixed = {
        "data_path": str(exchange.folder),
        "checkpoint_dir": str(exchange.folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None,
        "epochs": exchange.options["epochs"],
        "stopping_step": exchange.options["patience"] - 1,  # it goes on for one more
        "seed": exchange.seed,
        "show_progress": False,
    }
    sys.argv = sys.argv[:1]  # which it would read settings from
    return Config(exchange.options["model"], "shop", config_dict={**exchange.options["settings"], **fixed})


def write(exchange: Exchange) -> None:
    """Its atomic file. Times are places, as equal ones would lose their order when it sorts by them."""
    folder, log = exchange.folder / "shop", exchange.training
    folder.mkdir(exist_ok=True)
    lines = [f"{row}\t{item}\t{place}" for place, (row, item) in enumerate(zip(log.row, log.item, strict=True))]
    head = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "shop.inter").write_text("\n".join([head, *lines]) + "\n", "utf-8")


class SequenceScorer:
    """Scores of all items of the catalogue by a model that numbers items its own way, 0 being none."""

    def __init__(self, model: torch.nn.Module, tokens: np.ndarray, n_items: int, length: int) -> None:
        self.model, self.n_items, self.length = model, n_items, length
        self.rows = tokens[1:].astype(np.int64)
        self.number = np.zeros(n_items, np.int64)
        self.number[self.rows] = np.arange(1, len(tokens))

    @torch.no_grad()
    def __call__(self, histories: PeerHistories) -> np.ndarray:
        self.model.eval()
        found = np.zeros((len(histories), self.n_items), np.float32)
        for begin in range(0, len(histories), 512):
            rows = range(begin, min(begin + 512, len(histories)))
            read = [taken[taken > 0][-self.length :] for taken in (self.number[histories.of(row)] for row in rows)]
            asked = [place for place, taken in enumerate(read) if len(taken)]
            if not asked:
                continue
            padded = np.zeros((len(asked), self.length), np.int64)
            for line, place in enumerate(asked):
                padded[line, : len(read[place])] = read[place]
            lengths = torch.tensor([len(read[place]) for place in asked])
            given = Interaction({"item_id_list": torch.from_numpy(padded), "item_length": lengths})
            scores = self.model.full_sort_predict(given.to(self.model.device)).float().cpu().numpy()
            found[np.ix_(begin + np.array(asked), self.rows)] = scores[:, 1:]
        return found


class JudgedTrainer(Trainer):
    """Its trainer, judged by our validation."""

    def __init__(self, config: Config, model: torch.nn.Module, exchange: Exchange, scorer: SequenceScorer) -> None:
        super().__init__(config, model)
        self.exchange, self.scorer, self.history = exchange, scorer, []
        self.saved_model_file = str(exchange.folder / "best.pth")
        self.began = perf_counter()

    def _valid_epoch(self, valid_data: object, show_progress: bool = False) -> tuple[float, dict]:
        ndcg = self.exchange.judged(self.scorer(self.exchange.validation))
        self.history.append({"ndcg": ndcg, "seconds": perf_counter() - self.began})
        self.began = perf_counter()
        return ndcg, {"ndcg@10": ndcg}

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **others: object) -> None:
        super()._save_checkpoint(epoch, verbose=verbose, **others)
        np.save(self.exchange.folder / "epochs.npy", [list(epoch.values()) for epoch in self.history])

    def resume_checkpoint(self, resume_file: str) -> None:
        """After its best epoch, as it keeps no other."""
        super().resume_checkpoint(resume_file)
        before = np.load(self.exchange.folder / "epochs.npy").tolist()
        self.history = [{"ndcg": ndcg, "seconds": seconds} for ndcg, seconds in before]


def main(folder: Path) -> None:
    exchange = Exchange(folder)
    write(exchange)
    config = settings(exchange)
    init_seed(exchange.seed, config["reproducibility"])
    training = create_dataset(config).build()[0]
    loader = TrainDataLoader(config, training, None, shuffle=True)
    model = get_model(config["model"])(config, training).to(config["device"])
    length = config["MAX_ITEM_LIST_LENGTH"]
    scorer = SequenceScorer(model, training.field2id_token["item_id"], exchange.n_items, length)
    trainer = JudgedTrainer(config, model, exchange, scorer)
    if Path(trainer.saved_model_file).exists():
        trainer.resume_checkpoint(trainer.saved_model_file)
    trainer.fit(loader, valid_data=loader, verbose=False)
    model.load_state_dict(torch.load(trainer.saved_model_file)["state_dict"])
    exchange.answer(
        scorer,
        best_epoch=1 + int(np.argmax([epoch["ndcg"] for epoch in trainer.history])),
        epochs=trainer.history,
        fit_seconds=sum(epoch["seconds"] for epoch in trainer.history),
        versions={name: version(name) for name in ("recbole", "torch")},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
