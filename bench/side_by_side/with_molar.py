"""Load, train, recommend, evaluate two models: molar."""

import sys

import molar

shop = molar.open(sys.argv[1])
shop.embed()
shop.align(preset="instant")
print(shop.query(sys.argv[2], k=10).to_pandas())
evaluation = shop.evaluate("temporal", models=["ALS", "EASE"])
print(evaluation.leaderboard().to_pandas())
