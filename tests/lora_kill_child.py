"""Fine-tunes a language model, and dies as by `kill -9` before its N-th change of the folder where the run is kept.

python lora_kill_child.py FOLDER MODEL OUTPUT N; without N it ends, and prints how many changes there were.
"""

import os
import signal
import sys
from pathlib import Path

import lora_shop
import torch

from molar_retrieval.finetuning.adapter import finetune
from molar_retrieval.workspace.artefacts import Workspace

torch.set_num_threads(1)
folder, model, output, last = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int((*sys.argv, 0)[4])
changes = 0


def watch(event, given):
    global changes
    written = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
    if written or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        changes += ".training" in str(given[0])
        if changes == last > 0:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
chosen = lora_shop.settings(model, dropout=0.1, validate_every=2, n_examples=24, patience=9)
finetune(Workspace.open(folder / ".molar"), chosen, output)
sys.stdout.write(f"{changes}\n")
