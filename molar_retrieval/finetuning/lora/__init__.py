"""Low-rank adaptation of language models that see: the paper's three tasks by gradient descent."""
