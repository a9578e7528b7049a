"""A process that embeds a catalogue and may be killed at any moment. Arguments: workspace, log, batch size."""

import sys
from pathlib import Path

from embedding_fakes import FakeEncoder, run

from molar_retrieval.workspace.artefacts import Workspace

if __name__ == "__main__":
    root, log, batch_size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run(Workspace.open(root), FakeEncoder(log=log, seconds=0.012, dim=256), batch_size=batch_size)
