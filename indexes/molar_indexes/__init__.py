"""Vector indexes and the recommender that is composed on them."""
