"""Reasons that decisions put on record are told in every language of the page; others stay as they are."""

import dataclasses
from dataclasses import replace

import pytest
from made_up_experiment import DAY, EXPERIMENT, NOW, effect, results

from molar_eval.experiments.decisions import decide
from molar_eval.experiments.report import reason_in, words_in
from molar_eval.experiments.results import Guardrail, Preference, ShadowComparison
from molar_retrieval.experiments.definition import HARM


def every_decision():
    """What decisions say in all stages, each rule at least once."""
    told = results(effect())
    early = replace(told, since=NOW - DAY)
    shadow = replace(told, stage="shadow")
    good = ShadowComparison(1200, 0.5, 1.0, 0, 0, None)
    yield decide(EXPERIMENT, shadow)
    yield decide(EXPERIMENT, replace(shadow, shadow=good))
    yield decide(EXPERIMENT, replace(shadow, shadow=replace(good, errors=3, empty=1, p99_ratio=1.61)))
    mixed = replace(told, stage="interleaving", since=NOW - 7 * DAY)
    for low, high in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1)):
        yield decide(EXPERIMENT, replace(mixed, preference=Preference(90, 40, 5, 0.1, low, high, 0.1, 1150)))
    yield decide(EXPERIMENT, replace(mixed, since=NOW - 60 * DAY))
    canary = replace(told, stage="canary")
    yield decide(EXPERIMENT, replace(early, stage="canary"))
    yield decide(EXPERIMENT, canary)
    seen = Guardrail("clicks", 0.0, -0.1, 0.1, 0.1, alarm=False, visitors=900)
    yield decide(EXPERIMENT, replace(canary, guardrails=(seen,)))
    for name in HARM:
        yield decide(EXPERIMENT, replace(canary, guardrails=(replace(seen, metric=name, alarm=True),)))
    yield decide(EXPERIMENT, told)
    yield decide(dataclasses.replace(EXPERIMENT, unit="time"), told)
    for low, high in ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1)):
        late = results(effect(low=low, high=high), stage="everybody")
        yield decide(EXPERIMENT, late)
        yield decide(EXPERIMENT, replace(late, since=NOW - 100 * DAY))
    yield decide(EXPERIMENT, replace(results(None), stage="everybody"))
    yield decide(EXPERIMENT, replace(told, stage="stopped"))


OF_LOOKS = [
    "the treatment brings more conversion, beyond the bound of the look of week 2",
    "the treatment brings less revenue, beyond the bound of the look of week 1",
    "there is no difference of clicks larger than 10%",
    "it cannot be told after 4 weeks",
    "it cannot be told after 4 weeks: about 12 weeks more at this rate",
    "going on is futile: a lift of 10% of conversion would hardly be seen any more",
    "it cannot be told yet: about 1 week more at this rate",
    "it cannot be told yet",
    "no difference is seen, where a lift of 10% of conversion would have been with a chance of 80%",
    "the treatment brings more revenue, by 14 days of pairs",
    "the treatment brings less revenue, by 14 days of pairs",
    "no difference of clicks is seen after 4 weeks",
    "there is too little to look at conversion yet: 12 and 9 people have met a difference",
]


@pytest.mark.parametrize("language", ["de", "ja"])
def test_every_reason_of_a_decision_is_told_in_other_languages(language):
    words = words_in(language)
    decisions = list(every_decision())
    reasons = [why for one in decisions for why in one.why] + OF_LOOKS
    assert len(set(reasons)) > 35
    for recorded in (*reasons, *(" ".join(one.why) for one in decisions if one.why)):
        told = reason_in(words, recorded)
        assert not [one for one in (" the ", " of ", " people", "treatment", "week", " is ") if one in told], recorded
        assert reason_in(words_in("en"), recorded).lower().startswith(recorded[:20])
        assert "“" not in reason_in(words_in("en"), recorded), recorded


def test_what_people_wrote_stays_and_numbers_are_written_as_in_the_language():
    de = words_in("de")
    assert reason_in(de, "Anna says so; control is kept") == "„Anna says so“ Es bleibt, was vorher da war."
    assert reason_in(de, "of 1,200 requests none failed, was slow or empty because of the treatment").startswith(
        "Von 1.200"
    )
    both = "anyway, against: no alarm so far; 1 day more"
    assert reason_in(de, both) == "Trotzdem fortgesetzt, entgegen dem Bekannten: Bisher kein Alarm; noch ein Tag."
    assert reason_in(de, "the weather was fine") == "„the weather was fine“"
    assert reason_in(de, "") == ""
