"""Runs one stage on a catalogue folder, and prints the bytes that the process had at its peak.

Arguments: ``log``, ``factors`` or ``counting``, and the folder, whose catalogue is prepared. Blocks are small here, so
that few interactions are many blocks.
"""

import sys
from pathlib import Path

import numpy as np

from molar_retrieval.alignment.counting import count
from molar_retrieval.alignment.validation import ValidationCases
from molar_retrieval.collaborative.als import fit
from molar_retrieval.collaborative.factors import held_out
from molar_retrieval.config import AlignSettings, CFSettings, SplitSettings
from molar_retrieval.interactions import log, prepare_interactions, raw, read, write
from molar_retrieval.workspace import Workspace

if __name__ == "__main__":
    raw._BLOCK = log._BLOCK = read.BATCH = write._ROW_GROUP = 1 << 15
    stage, folder = sys.argv[1], Path(sys.argv[2])
    workspace = Workspace.for_catalogue(folder / ".molar", folder)
    if stage == "log":
        prepare_interactions(folder, workspace)
    elif stage == "counting":
        holdout = held_out(workspace, SplitSettings())
        features = np.ones((holdout.training.n_items, 768), np.float32)
        count(holdout.training, ValidationCases.of(holdout), features, AlignSettings(experts=("sequence",)))
    else:
        fit(held_out(workspace, SplitSettings()).training, CFSettings(iterations=1))
    # Not ru_maxrss, which a process inherits from the one that started it.
    sys.stdout.write(str(1024 * int(Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0])))
