"""Two of these under `torchrun`: what each saw and what its adapter became, as one line of JSON per process.

python -m torch.distributed.run --standalone --nproc_per_node 2 lora_processes_child.py FOLDER MODEL
"""

import json
import sys
from pathlib import Path

import lora_shop
import torch

from molar_retrieval.finetuning.lora.run import prepared
from molar_retrieval.models.towers.distributed import Processes
from molar_retrieval.workspace.artefacts import Workspace

torch.set_num_threads(1)
folder, model = Path(sys.argv[1]), Path(sys.argv[2])
processes = Processes.of_launcher()
with prepared(Workspace.open(folder / ".molar"), lora_shop.settings(model, examples=16), processes) as trainer:
    drawn = trainer.examples.draw(0, processes.index, processes.count).rows["image_text"].tolist()
    for _ in range(trainer.steps):
        trainer.step()
    told = {
        "process": processes.index,
        "steps": trainer.steps,
        "drawn": drawn,
        "adapter": [p.sum().item() for p in trainer.learner.trained().values()],
    }
(folder / f"process{processes.index}.json").write_text(json.dumps(told), "utf-8")
