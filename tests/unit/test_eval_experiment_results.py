"""What an experiment has shown: as values for JSON."""

import json

from molar_eval.experiments.results import Decision, Effect, ExperimentResults, Guardrail
from molar_retrieval.experiments.records import Look


def test_results_are_values_for_json():
    effect = Effect("conversion", 0.1, 0.12, 0.02, 0.01, 0.03, 0.2, 0.1, 0.3, (50, 60), cuped=True, significant=True)
    results = ExperimentResults(
        name="reranked",
        stage="ab",
        since=0,
        until=10**15,
        people={"control": 100, "treatment": 101},
        triggered={"control": 50, "treatment": 60},
        both=1,
        srm=0.4,
        effects=(effect,),
        guardrails=(Guardrail("clicks", None, None, None, 0.1, alarm=False, visitors=0),),
        preference=None,
        shadow=None,
        looks=(Look(1, 10**14, "ab", "conversion", 0.25, 1e-4, None, None, "wait", {"week": 1}),),
        money=None,
        decision=Decision("wait", None, ("2 weeks more",), automatic=False),
        problems=(),
    )
    assert results.effect("conversion") is effect
    assert results.effect("revenue") is None
    told = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert told["effects"][0]["people"] == [50, 60]
    assert told["decision"] == {"go": "wait", "to": None, "why": ["2 weeks more"], "automatic": False}
    assert told["looks"][0]["facts"] == {"week": 1}
    assert told["guardrails"][0]["difference"] is None
