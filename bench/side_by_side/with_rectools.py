"""Load, train, recommend, evaluate two models: RecTools."""

import sys

import pandas as pd
from implicit.als import AlternatingLeastSquares
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG, Recall
from rectools.model_selection import TimeRangeSplitter, cross_validate
from rectools.models import EASEModel, ImplicitALSWrapperModel

log = pd.read_parquet(sys.argv[1] + "/interactions.parquet").rename(columns={"timestamp": Columns.Datetime})
log[Columns.Datetime] = log[Columns.Datetime].dt.tz_localize(None)
log[Columns.Weight] = 1.0
dataset = Dataset.construct(log[Columns.Interactions])
models = {"ALS": ImplicitALSWrapperModel(AlternatingLeastSquares(factors=64)), "EASE": EASEModel()}
models["EASE"].fit(dataset)
print(models["EASE"].recommend([sys.argv[2]], dataset, k=10, filter_viewed=True))
metrics = {"NDCG@10": NDCG(10), "Recall@10": Recall(10)}
scores = cross_validate(dataset, TimeRangeSplitter("180D"), metrics, models, k=10, filter_viewed=True)
print(pd.DataFrame(scores["metrics"])[["model", *metrics]])
