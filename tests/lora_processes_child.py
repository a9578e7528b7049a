"""Two of these under `torchrun`: what each saw and what its adapter became, as one file of JSON per process.

python -m torch.distributed.run --standalone --nproc_per_node 2 lora_processes_child.py FOLDER MODEL
"""

import json
import sys
from pathlib import Path

import lora_shop
import torch

from molar_retrieval.finetuning import adapter
from molar_retrieval.finetuning.tasks import TaskData
from molar_retrieval.models.towers.distributed import Processes
from molar_retrieval.workspace.artefacts import Workspace

torch.set_num_threads(1)
folder, model = Path(sys.argv[1]), Path(sys.argv[2])
processes = Processes.of_launcher()
seen, trainers, inputs, scores = [], [], TaskData.inputs, TaskData.scores
TaskData.inputs = lambda data, codes: seen.append([int(code) for code in codes]) or inputs(data, codes)


def rising(data, encode):
    """The last step is the best."""
    return {name: score + len(seen) for name, score in scores(data, encode).items()}


class Trainer(adapter.LoraTrainer):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        trainers.append(self)


TaskData.scores, adapter.LoraTrainer = rising, Trainer
chosen = lora_shop.settings(model, n_examples=16, vision=True, gradient_checkpointing=True, merged=False)
report = adapter.finetune(Workspace.open(folder / ".molar"), chosen, folder / "out", processes=processes)
told = {
    "report": report is not None,
    "steps": trainers[0].state.global_step,
    "seen": [codes for codes in seen if len(codes) <= 8],  # batches of 4 pairs; more are withheld ones
    "scores": [score.scores for score in trainers[0].kept],
    "adapter": [p.sum().item() for p in trainers[0].learner.weights().values()],
}
(folder / f"process{processes.index}.json").write_text(json.dumps(told), "utf-8")
