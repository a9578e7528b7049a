"""What dropping parts from the sum of the experts costs or spares where no choice was made on what is judged.

    python bench/elimination.py CATALOGUE WORKSPACE [--split "last day"] [--before 3]

Weights are chosen on one validation and judged on the next: that of the split, and those of as many days (or
interactions) ``--before`` it in everybody's history. A part stays if what it gains there is more than --least times
the standard error of this gain; -inf drops nothing. Content is read by words alone. Nothing of a test is looked at. The
workspace needs a prepared catalogue and log, and stays as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from groups import before, features_of, told

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import count_models
from molar_retrieval.models.blending import blend, ranked
from molar_retrieval.models.validation import gains
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, PrivacySettings

_LEAST = (-np.inf, -1.0, 0.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--split", choices=("last day", "leave-one-out"), default="last day")
    parser.add_argument("--before", type=int, default=3)
    parser.add_argument("--least", type=float, nargs="+", default=_LEAST)
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    log, catalogue = open_log(workspace), Catalogue.open(workspace["catalogue"].require()[0])
    features, fewest = features_of(workspace, catalogue, words=True), PrivacySettings().fewest(log.n_users)
    chosen: list[dict[str, float]] = []
    judged, people = [], []
    for left_out in range(asked.before, -1, -1):
        training, cases = before(log, asked.split, left_out)
        parts = count_models(training, cases, features, AlignSettings(), least=fewest).parts(cases)
        if chosen:
            judged.append([gains(rank) for rank in ranked(cases, parts, chosen)])
            people.append(cases.users)
        if left_out:
            found = [blend(cases, parts, least=least) for least in asked.least]
            chosen = [dict(one.weights) for one in found]
            dropped = "; ".join(
                f"{least:g}: {', '.join(one.dropped)}" for least, one in zip(asked.least, found, strict=True)
            )
            print(f"{left_out} before, {len(cases)} cases, dropped at {dropped}", flush=True)
    of_all, (first, *others) = np.concatenate(people), map(np.concatenate, zip(*judged, strict=True))
    for least, other in zip(asked.least[1:], others, strict=True):
        print(f"{least:g}, {len(of_all)} cases: {told(other, first, of_all)}")


if __name__ == "__main__":
    main()
