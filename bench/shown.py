"""What it costs to keep answers: CPU time of each in the request and in all, and how large the file gets.

``python bench/shown.py path/to/.molar`` asks for one list and keeps it many times, in a folder of its own.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from molar_indexes.recommender import Recommender
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.ranking.results import new_id
from molar_serving.asking import ask
from molar_serving.auth import ANYBODY
from molar_serving.lists import list_of, reply
from molar_serving.response_store import ShownAnswers
from molar_serving.wire import RecommendationRequest

_TIMES, _RATE = 5_000, 500  # answers, and how many of them a second


def main(workspace: str) -> None:
    """Print what an answer costs without being kept, and kept."""
    with Recommender.open(workspace) as recommender, tempfile.TemporaryDirectory() as folder:
        asked = RecommendationRequest(user_id=recommender.generation.users.between(0, 1)[0].user_id, placement="home")
        answer = ask(recommender, asked)
        for minutes in (0.0, 30.0):
            shown = ShownAnswers(Path(folder), minutes)
            shown.start()
            service = SimpleNamespace(shown=shown, names=Pseudonymiser())
            call = cast("Any", SimpleNamespace(key=ANYBODY, within=None, service=service))
            request, all_threads = 0.0, time.process_time()
            for _ in range(_TIMES):
                began = time.thread_time()
                told = list_of(call, asked, replace(answer, request_id=new_id()), [])
                body = reply(call, told, asked, asked).response().body
                request += time.thread_time() - began
                time.sleep(1 / _RATE)
            shown.close()
            every = time.process_time() - all_threads
            print(f"kept for {minutes:2.0f} min: {1e6 * request / _TIMES:4.0f} µs in the request,", end=" ")
            print(f"{1e6 * every / _TIMES:4.0f} µs in all; {len(body):,} bytes each")
        size = (Path(folder) / "serving" / "answers.sqlite").stat().st_size
        print(f"{size / _TIMES:,.0f} bytes each on the disk")


if __name__ == "__main__":
    main(*sys.argv[1:])
