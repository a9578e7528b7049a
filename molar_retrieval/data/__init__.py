"""The data of a shop: catalogue, its photos and texts, published data sets, the demo data set."""
