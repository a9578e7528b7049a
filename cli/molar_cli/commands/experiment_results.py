"""What is known of an experiment, for a terminal of 80 columns."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from molar_eval.experiments.planning import percent

if TYPE_CHECKING:
    from molar_cli.console import Console
    from molar_eval.experiments.results import Decision, Effect, ExperimentResults, Guardrail

_GO = {"on": "go on", "back": "go back", "wait": "wait", "stop": "stop"}


def print_results(console: "Console", found: "ExperimentResults") -> None:
    """Effects and guardrails with their intervals, then the decision, and what is broken."""
    if found.effects:
        rows = [_effect(one) for one in found.effects]
        console.table(("per person", ">control", ">treatment", ">change", "interval"), rows, title="\neffects")
    if found.guardrails:
        rows = [_guardrail(one) for one in found.guardrails]
        console.table(("guardrail", ">change", "interval", ">harm", ""), rows, title="\nguardrails")
    console.line("", *_others(found), *(f"broken: {problem}" for problem in found.problems))
    console.line(*decided(found.decision))


def decided(decision: "Decision") -> list[str]:
    """The decision and its reasons."""
    to = f" to {decision.to}" if decision.to else ""
    itself = ", by itself" if decision.automatic else ""
    return [f"decision: {_GO[decision.go]}{to}{itself}", *(f"- {one}" for one in decision.why)]


def _effect(one: "Effect") -> tuple[str, ...]:
    change, interval = "", f"{one.low:+.4g} to {one.high:+.4g}"
    if one.lift is not None:
        change = _signed(one.lift)
    if one.lift_low is not None and one.lift_high is not None:
        interval = f"{_signed(one.lift_low)} to {_signed(one.lift_high)}"
    says = "" if one.significant else ": cannot tell yet"
    return one.metric, f"{one.control:.4g}", f"{one.treatment:.4g}", change, interval + says


def _guardrail(one: "Guardrail") -> tuple[str, ...]:
    known = one.low is not None and one.high is not None
    interval = f"{_signed(one.low or 0)} to {_signed(one.high or 0)}" if known else "too few yet"
    change = "" if one.difference is None else _signed(one.difference)
    return one.metric, change, interval, percent(one.harm), "ALARM" if one.alarm else ""


def _others(found: "ExperimentResults") -> Iterator[str]:
    shadow, liked, money = found.shadow, found.preference, found.money
    if shadow is not None:
        price = "" if shadow.price is None else f", prices {shadow.price:.2f} ×"
        yield (
            f"shadow: {shadow.requests:,} requests, {percent(shadow.overlap)} of the items are the same,"
            f" slowest {shadow.p99_ratio:.2f} ×, {shadow.errors:,} failed, {shadow.empty:+,} empty{price}"
        )
    if liked is not None:
        yield (
            f"preference: {liked.wins:,} people for the treatment, {liked.losses:,} for control, {liked.ties:,} for"
            f" neither; {liked.preference:+.2f}, from {liked.low:+.2f} to {liked.high:+.2f}"
        )
    if money is not None and money.month_low is not None and money.month is not None and money.month_high is not None:
        yield (
            f"money a month: {money.month:+,.0f} {money.currency}, from {money.month_low:+,.0f} to"
            f" {money.month_high:+,.0f}, before what it costs"
        )


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} %"
