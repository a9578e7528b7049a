"""Runs where RecTools is: lists by the vectors that the benchmark takes from its model, and RecTools' own lists."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])
import torch
from rectools import Columns
from rectools.dataset import Dataset
from training_rectools import model_of, read, vectors_of

folder = Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())
torch.set_num_threads(1)
model = model_of(plan, [])
model.fit(Dataset.construct(read(folder / "training")))
inputs = read(folder / "test")
users, items, known = vectors_of(model, inputs, plan["test"], plan["items"])
scores = np.where(known, users @ items.T, -np.inf)
scores[inputs[Columns.User], inputs[Columns.Item]] = -np.inf
own = model.recommend(np.arange(plan["test"]), Dataset.construct(inputs), k=10, filter_viewed=True)
theirs = own.sort_values([Columns.User, Columns.Rank]).groupby(Columns.User)[Columns.Item].agg(list)
json.dump({"ours": np.argsort(-scores, axis=1)[:, :10].tolist(), "theirs": theirs.sort_index().tolist()}, sys.stdout)
