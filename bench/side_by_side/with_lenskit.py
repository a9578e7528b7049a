"""Load, train, recommend, evaluate two models: LensKit."""

import sys

import pandas as pd
from lenskit import recommend as recommend_for
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.knn.ease import EASEScorer
from lenskit.metrics import NDCG, Recall, RunAnalysis
from lenskit.pipeline import topn_pipeline
from lenskit.splitting import split_global_time

log = pd.read_parquet(sys.argv[1] + "/interactions.parquet")
log = log[["user_id", "item_id", "timestamp"]].drop_duplicates(["user_id", "item_id"])
data = from_interactions_df(log)
pipeline = topn_pipeline(EASEScorer())
pipeline.train(data)
print(recommend_for(pipeline, sys.argv[2], 10).to_df())
split = split_global_time(data, log["timestamp"].max() - pd.Timedelta("180D"), filter_test_users=True)
for name, scorer in {"ALS": ImplicitMFScorer(), "EASE": EASEScorer()}.items():
    pipeline = topn_pipeline(scorer)
    pipeline.train(split.train)
    lists = recommend(pipeline, split.test.keys(), 10, n_jobs=1)
    print(name, RunAnalysis(NDCG(10), Recall(10)).measure(lists, split.test).list_summary())
