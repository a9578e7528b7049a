"""The records of an answer."""

import json

from molar_retrieval.ranking.results import Recommendation, Recommendations


def test_an_answer_is_jsonable_without_payloads() -> None:
    item = Recommendation(
        1, "a", None, 1.0, {"popularity": 1.0, "cold_start": 0.5}, 3, "max 2 per brand", payload={"price": 3}
    )
    answer = Recommendations("u", 10, "g", "aligned", [item], None, ["note"], {"total": 1.0})
    shown = json.loads(json.dumps(answer.to_dict()))
    assert shown["items"] == [
        {
            "rank": 1,
            "item_id": "a",
            "title": None,
            "score": 1.0,
            "parts": {"popularity": 1.0, "cold_start": 0.5},
            "rank_by_score": 3,
            "rule": "max 2 per brand",
            "similarity": None,
            "propensity": 1.0,
            "reasons": [],
            "evidence": None,
            "fields": {},
        }
    ]
