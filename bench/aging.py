"""What an alignment loses with age, and which part of it brings that back when it is made anew.

One alignment is trained on what a log knew at a moment, brought to a later one as `molar update` does without training,
and asked what people took in the days after that and had not had. Then the same with parts of it exchanged: towers
trained on, weights and second stage chosen again, both, and with --anew those of an alignment trained at the later
moment. The workspace has the catalogue's vectors (`molar embed`) and a prepared log; what is trained is kept in --keep.

    python bench/aging.py path/to/.molar 2011-10-03 2011-10-31 --days 6 --preset fast --keep DIR [--anew]
"""

import argparse
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from molar_eval.cases import Cases
from molar_eval.metrics import accuracy
from molar_eval.models.content_variants import link
from molar_eval.models.ours import MolarScorer
from molar_eval.models.prequential import carry
from molar_eval.ranking import rank
from molar_eval.splits import DAY, is_first
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare_interactions import prepare_interactions, write_log
from molar_retrieval.models.alignment import align
from molar_retrieval.models.als import held_out, open_log
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.incremental import warm_start, weighted
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.store import open_model, trained_with
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, MolarSettings, SplitSettings

CHOSEN = ("weights", "cold_start_weights", "predictors", "slots", "reranker", "numbers", "objectives")


def cases_of(log: Interactions, begin: int, end: int) -> Cases:
    """What people with a history took first from one moment up to another, in seconds; asked as of the first."""
    log = log.select(log.timestamp < end)
    before = log.timestamp < begin
    length = np.bincount(log.user[before], minlength=log.n_users)
    rows = np.flatnonzero(is_first(log) & ~before & (length[log.user] > 0))
    users, first = np.unique(log.user[rows].astype(np.int64), return_index=True)
    return Cases(log, users, length[users], np.append(first, len(rows)), log.item[rows])


def place(root: Path, base: Workspace, log: Interactions) -> Workspace:
    """A workspace of the same catalogue and vectors with another log."""
    workspace = Workspace.for_catalogue(root, base.catalogue)
    for kind in ("catalogue", "content"):
        link(base, workspace, kind)
    write_log(workspace, log, {"catalogue": workspace["catalogue"].require()[1].fingerprint})
    return workspace


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("trained", help="day (UTC) before which the training lies")
    parser.add_argument("asked", help="day from which on people are asked about")
    parser.add_argument("--days", type=int, default=7, help="for so many days")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--anew", action="store_true", help="train at the later moment as well")
    arguments = parser.parse_args()
    base = Workspace.open(arguments.workspace)
    prepare_interactions(base.catalogue, base)
    log = open_log(base)
    begin, asked = (
        int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in (arguments.trained, arguments.asked)
    )
    cases = cases_of(log, asked, asked + arguments.days * DAY)
    past = log.select(log.timestamp < asked)
    options = MolarSettings(align=AlignSettings(preset=arguments.preset, threads=arguments.threads))
    print(f"{len(cases)} people, {len(cases.targets)} items of theirs")

    def values(model: Ensemble) -> np.ndarray:
        scorer = MolarScorer(model.seeing(past), base, {})
        everything = np.ones(log.n_items, bool)
        found = rank(cases, scorer.scores, k=10, candidates=everything, finish=scorer.finish)
        return accuracy(found.ranks, cases.offsets, (10,))["ndcg@10"]

    def told(name: str, model: Ensemble) -> None:
        now = values(model)
        gain, error = (now - updated).mean(), (now - updated).std() / len(now) ** 0.5
        mean = updated.mean()
        print(f"  {name:50s} {now.mean():.4f}  {1 + gain / mean:6.1%} ± {error / mean:.1%}", flush=True)

    first = place(arguments.keep / f"trained-{arguments.trained}", base, log.select(log.timestamp < begin))
    align(first, options)
    refresh(first)
    folder = arguments.keep / "updated"
    shutil.rmtree(folder, ignore_errors=True)
    later = place(folder, base, past)
    carry(first, later)
    refresh(later)
    now = open_model(later["alignment"].require()[0])
    updated = values(now)
    told("updated without training", now)
    manifest = later["alignment"].require()[1]
    holdout = held_out(later, SplitSettings(**manifest.settings["split"]))
    told("weights chosen again", weighted(later, now, holdout, manifest, trained_with(manifest))[0])
    clock = time.process_time()
    found = warm_start(later, threads=options.align.threads)
    took = time.process_time() - clock
    warm = open_model(later["alignment"].require()[0])
    print(f"  towers trained on: {found.before:.4f} → {found.after:.4f}; with weights {took:.0f} s of processor time")
    told("towers trained on, weights chosen again", warm)
    told("towers trained on, weights as they were", replace(now, network=warm.network, predictors=warm.predictors))
    if arguments.anew:
        anew = place(arguments.keep / f"trained-{arguments.asked}", base, past)
        align(anew, options)
        refresh(anew)
        other = open_model(anew["alignment"].require()[0])
        told("trained anew", other)
        told("towers of it", replace(now, network=other.network, predictors=other.predictors))
        told("weights and second stage of it", replace(now, **{name: getattr(other, name) for name in CHOSEN}))
        told("counted models of it", replace(now, item_item=other.item_item, half_life=other.half_life))


if __name__ == "__main__":
    main()
