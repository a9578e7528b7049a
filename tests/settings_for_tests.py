"""Settings that make training quick and bit-equal."""

SMALL_ALIGNMENT = {
    "embedding_dim": 16, "epochs": 3, "max_history": 20, "objectives": ["next_item"], "threads": 1,
    "precision": "float32", "device": "cpu",
}  # fmt: skip
