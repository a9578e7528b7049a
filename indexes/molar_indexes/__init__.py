"""Vector indexes and the recommender that is composed on them."""

from molar_indexes.recommender import Recommender

__all__ = ["Recommender"]
