"""Work in shards on a Ray cluster: the extra ``cluster``. Only :mod:`molar_retrieval.cluster.engine` imports ray."""
