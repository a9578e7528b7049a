"""Two of these under `torchrun`: what each thinks is agreed, averaged and trained, as one line of JSON per process.

python -m torch.distributed.run --standalone --nproc_per_node 2 processes_child.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from eval_model_tasks import log_of, walks
from torch import nn

from molar_retrieval.models.als import fit
from molar_retrieval.models.towers.distributed import Processes
from molar_retrieval.models.towers.training import TowerTrainer, TrainingData
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.progress import SILENT
from molar_retrieval.workspace.settings import AlignSettings, ALSSettings

SETTINGS = AlignSettings(
    embedding_dim=16,
    content_dim=8,
    n_blocks=1,
    n_content_blocks=1,
    max_history=4,
    batch_tokens=64,
    precision="float32",
    device="cpu",
)


def data_of():
    log = log_of(walks(users=60))
    users = np.arange(20)
    cases = ValidationCases(log, users, users % log.n_items, np.ones(log.n_items, bool), np.zeros(20, np.int64))
    features = np.random.default_rng(0).normal(size=(log.n_items, 5)).astype(np.float32)
    return TrainingData(log, cases, features, fit(log, ALSSettings(factors=4, iterations=2)))


def main(folder):
    torch.set_num_threads(1)
    processes = Processes.of_launcher()
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))]
    parameters[0].grad = torch.full((2, 3), float(1 + processes.index))
    parameters[1].grad = torch.ones(4) if processes.first else None
    processes.average(parameters)
    trainer = TowerTrainer(data_of(), SETTINGS, "run", processes)
    score = trainer.round(SILENT)
    told = {
        "agreed": processes.agreed({"from": processes.index}),
        "means": [p.grad.unique().tolist() for p in parameters],
        "device": trainer.device.type,
        "score": [score.loss, score.ndcg],
        "steps": trainer.state.step,
        "weights": {name: float(p.double().sum()) for name, p in trainer.network.named_parameters()},
    }
    (folder / f"{processes.index}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
