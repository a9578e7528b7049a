"""What a warm start of the towers takes, and what validation says of it.

A copy of the workspace's live alignment is brought to the present log and trained on; nothing is published. `time molar
align` tells what training anew takes. With --all everything counts as new, so that as much is read as may be.

    python bench/warm_start.py path/to/.molar [--all]
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from molar_retrieval.models.incremental import warm_start
from molar_retrieval.models.refresh import refresh
from molar_retrieval.workspace.artefacts import Workspace, scratch_workspace


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--all", action="store_true", help="count everything as new")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    arguments = parser.parse_args()
    whole = Workspace.open(arguments.workspace)
    with scratch_workspace(arguments.workspace, whole.catalogue) as place:
        refresh(place)
        if arguments.all:
            manifest = place["alignment"].require()[1]
            place["alignment"].update_manifest(replace(manifest, facts={**manifest.facts, "learned_until": None}))
        began, processor = time.perf_counter(), time.process_time()
        found = warm_start(place, threads=arguments.threads)
        wall, cpu = time.perf_counter() - began, time.process_time() - processor
    print(f"{found.new:,} new interactions and {found.replayed:,} old ones read")
    taken = "taken" if found.better else "left"
    print(f"validation NDCG@10 of the towers {found.before:.4f} → {found.after:.4f}: {taken}")
    print(f"{wall:.1f} s, {cpu:.1f} s of processor time")


if __name__ == "__main__":
    main()
