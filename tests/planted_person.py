"""A shop in whose workspace a person is in every place where molar puts people."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from copies import copy_workspace

import molar
from molar_indexes.users import UserStore
from molar_retrieval.experiments.definition import Arm, Experiment
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.models.als import factorise
from molar_retrieval.workspace.settings import ALSSettings, SplitSettings

SUITE = 'description = "one"\nmodels = ["popularity"]\nresamples = 100\n[[splits]]\nsplit = "temporal"\n'
PLACES = [
    ".molar/interactions/*/users.parquet",
    ".molar/interactions/*/interactions.parquet",
    ".molar/als/*/factors.safetensors",
    ".molar/alignment/*/seen/users.parquet",
    ".molar/alignment/*/seen/interactions.parquet",
    ".molar/generations/*/users.sqlite",
    ".molar/events/log.sqlite*",
    ".molar/experiments/experiments.sqlite",
    ".molar/evaluation/splits/*/history.parquet",
    ".molar/evaluation/trials/*/test-0.safetensors",
    ".molar/evaluation/models/temporal/interactions/1/users.parquet",
    ".molar/evaluation/models/temporal/interactions/1/validation.parquet",
    ".molar/check.html",
    "shop/users.parquet",
    "shop/interactions.parquet",
    "lists/recommendations.parquet",
    "lists/stolen.bin",
    "run/scores/*/*/seed-0.parquet",
]


@dataclass
class Place:
    """A shop in whose workspace a person is everywhere."""

    shop: molar.Shop
    root: Path
    user: str


def plant(trained, root: Path) -> Place:
    """Such a shop in a new folder."""
    copy_workspace(trained.workspace, root / ".molar")
    copy_workspace(trained.shop, root / "shop")
    (root / "one.toml").write_text(SUITE)
    shop = molar.Shop(root / "shop", root / ".molar")
    shop.evaluate(str(root / "one.toml"), out=root / "run")
    (scores,) = (root / "run/scores").glob("*first*/popularity/*.parquet")
    user = max(pq.read_table(scores)["user"].to_pylist())
    item = "SKU-0001"
    every = [
        {"event": "view", "user_id": user, "item_id": item},
        {"event": "identify", "user_id": user, "session_id": "web-77-a"},
        {"event": "view", "session_id": "web-77-a", "item_id": item},
    ]
    moment = {"timestamp": "2026-11-20T10:00:00Z"}
    taken = shop.events.append([{"event_id": f"e{n}", **moment, **one} for n, one in enumerate(every)])
    assert taken.accepted == 3, taken
    with ExperimentStore(shop.opened(), make=True) as store:
        store.start(Experiment("autumn", treatment=Arm(options={"diversity": 0.3}), salt="1"), "shadow", 100, "anna")
        store.assign([Assignment("autumn", user, "control", 1)])
    factorise(shop.opened(), ALSSettings(), SplitSettings(), people=True)  # as a training has them that is at work
    (root / "lists").mkdir()
    shop.recommend(root / "lists/recommendations.parquet", k=3, users=[user, trained.user], processes=1)
    (log,) = (root / ".molar/interactions").glob("*/interactions.parquet")
    copy = root / ".molar/evaluation/models/temporal/interactions/1"  # as a model's own workspace
    copy.mkdir(parents=True)
    shutil.copy(log, copy / "validation.parquet")
    shutil.copy(log.with_name("users.parquet"), copy)
    shutil.copy(log, copy)
    (root / "run/examples.json").write_text(json.dumps({"users": [{"user_id": user, "history": []}]}))
    (root / ".molar/check.html").write_text(f"<td>{user}</td>")
    (users,) = (root / ".molar/generations").glob("*/users.sqlite")
    with UserStore(users) as people:
        vector = np.asarray(people.get(user).vector, np.float32)
    (root / "lists/stolen.bin").write_bytes(b"\xff\0\1" + vector[3:9].tobytes())
    return Place(shop, root, user)
