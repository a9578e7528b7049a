"""A search in words, the same in the terminal and on the page."""

from collections.abc import Mapping
from typing import Any

from molar_eval.tuning.result import TuningResult
from molar_retrieval.reports.wording import duration, fraction, p_value, plural, signed
from molar_retrieval.workspace.config_files import toml_value


def headline(result: TuningResult) -> str:
    """What to take from it."""
    if result.recommended:
        return "Other settings are better"
    if result.confirmation is None:
        return "The settings as they are did best"
    return "No settings are shown to be better"


def sentences(result: TuningResult) -> list[str]:
    """What was compared, and whether it holds."""
    best, said = result.best, result.confirmation
    pruned = sum(trial.state == "pruned" for trial in result.trials)
    ended = f", {pruned} of them ended early" if pruned else ""
    found = [f"{plural(len(result.trials), 'trial')}{ended}, {duration(60 * result.spent)} of {result.minutes:g} min."]
    if said is None:
        found.append(
            f"The settings as they are have NDCG@10 {fraction(result.now.score)} for the"
            f" {plural(result.people, 'person', 'people')} who choose, and no trial has more."
        )
        return found
    found.append(
        f"Trial {best.number} did best for the {plural(result.people, 'person', 'people')} who choose: NDCG@10"
        f" {fraction(best.score)}, with the settings as they are {fraction(result.now.score)}. The best of many is"
        " thought better than it is by those who chose it."
    )
    verdict = "It is better" if said.holds else "Chance would do as much" if said.difference > 0 else "It is not better"
    found.append(
        f"{verdict} for {plural(said.people, 'other person', 'other people')}, who chose nothing:"
        f" {fraction(said.best)} against {fraction(said.now)}, {signed(said.difference)} (95 % interval"
        f" {signed(said.low)} to {signed(said.high)}), {p_value(said.p)}."
    )
    return found


def lines_of(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The changes as lines of ``molar.toml``."""
    found: list[str] = []
    for section, keys in changes.items():
        found += [f"[{section}]", *(f"{key} = {toml_value(value)}" for key, value in keys.items())]
    return found
