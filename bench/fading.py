"""What the time between two interactions tells the expert of order, by the exponent of its power law.

    python bench/fading.py CATALOGUE WORKSPACE [--fades 0 0.15 0.3 0.5] [--days 3]

Each setting of the `sequence` expert that would be tried is counted with each exponent, and ranks the validation cases
alone and beside the other experts, whose weights are chosen anew; ± is the standard error over the cases of the
difference to the first exponent. With ``--days`` the first setting alone is, and people's next days are asked: weights
are chosen on one day of each person and judged on the next, so many times, the split's validation last; content is
read by words alone then. Otherwise it is as it was embedded. Nothing of a test is looked at; the workspace needs
content vectors, and stays as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from groups import before, features_of, told
from rich.console import Console
from rich.table import Table
from towers import data_of

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import (
    COOCCURRENCE,
    COUNTS,
    REGRESSION,
    REGRESSIONS,
    SEQUENTIAL,
    Setting,
    count_models,
    order,
    sequence,
    too_many,
)
from molar_retrieval.models.blending import Counted, ScoreComponent, blend, ranked
from molar_retrieval.models.sequential import count_transitions
from molar_retrieval.models.validation import ValidationCases, gains, means, ranks
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.resources import Timer
from molar_retrieval.workspace.settings import AlignSettings, PrivacySettings

_COLUMNS = "model", "window", "decay", "fade", "alone", "with the others", "than the first", "processor s"


def part_of(log: Interactions, cases: ValidationCases, setting: Setting) -> Counted:
    """The expert of a setting, as a part of the score of the cases."""
    expert = sequence(log, count_transitions(log, *order(setting)), setting, AlignSettings().neighbors)
    return Counted(expert.read(cases.histories()), expert.weights)


def next_items(workspace: Workspace, fades: list[float]) -> None:
    """All settings, on the validation cases."""
    data = data_of(workspace)
    counts = count_models(data.log, data.cases, data.features, AlignSettings())
    others = {name: part for name, part in counts.parts(data.cases).items() if name != SEQUENTIAL}
    table = Table(box=None)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right")
    for tried in counts.report[SEQUENTIAL]["tried"]:
        first = None
        for fade in fades:
            setting, took = {**tried["setting"], "fade": fade}, Timer()
            part = part_of(data.log, data.cases, setting)
            seconds = took.took.processor
            alone, fused = means(ranks(data.cases, part.scores)), blend(data.cases, {**others, SEQUENTIAL: part}, 0)
            gained = gains(fused.ranks)
            first = gained if first is None else first
            more, error = (gained - first).mean(), (gained - first).std() / len(first) ** 0.5
            row = [setting["model"], f"{setting['window']}", f"{setting['decay']:g}", f"{fade:g}"]
            row += [f"{found['ndcg@10']:.4f} / {found['recall@10']:.4f}" for found in (alone, means(fused.ranks))]
            table.add_row(*row, f"{more:+.4f} ± {error:.4f}", f"{seconds:.0f}")
    print(f"{len(data.cases):,} cases; NDCG@10 / Recall@10")
    Console(highlight=False, width=140).print(table)


def next_days(workspace: Workspace, fades: list[float], days: int) -> None:
    """The first setting that can be had, on days whose weights the day before has chosen."""
    log, catalogue = open_log(workspace), Catalogue.open(workspace["catalogue"].require()[0])
    features, least = features_of(workspace, catalogue, words=True), PrivacySettings().fewest(log.n_users)
    others = AlignSettings(models=[name for name in AlignSettings().models if name != SEQUENTIAL])
    chosen: dict[float, dict[str, float]] = {}
    judged, people = {fade: [] for fade in fades}, []
    for left_out in range(days, -1, -1):
        training, cases = before(log, "last day", left_out)
        counted = too_many(REGRESSION, training) is not None
        setting = {"model": COOCCURRENCE, **COUNTS[0]} if counted else {"model": REGRESSION, **REGRESSIONS[0]}
        rest: dict[str, ScoreComponent] = count_models(training, cases, features, others, least=least).parts(cases)
        for fade in fades:
            parts = {**rest, SEQUENTIAL: part_of(training, cases, {**setting, "fade": fade})}
            if left_out < days:
                judged[fade].append(gains(ranked(cases, parts, [chosen[fade]])[0]))
            chosen[fade] = dict(blend(cases, parts, 0).weights)
        people += [cases.users] if left_out < days else []
    of_all, first = np.concatenate(people), np.concatenate(judged[fades[0]])
    for fade in fades:
        print(f"fade {fade:g}, {len(of_all)} cases: {told(np.concatenate(judged[fade]), first, of_all)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--fades", type=float, nargs="+", default=[0.0, 0.15, 0.3, 0.5])
    parser.add_argument("--days", type=int)
    asked = parser.parse_args()
    workspace = Workspace.for_catalogue(asked.workspace, asked.catalogue)
    if asked.days is None:
        next_items(workspace, asked.fades)
    else:
        next_days(workspace, asked.fades, asked.days)


if __name__ == "__main__":
    main()
