"""Settings that make training quick and bit-equal."""

SMALL_ALIGNMENT = {
    "dim": 16, "epochs": 3, "history": 20, "horizon": "next", "threads": 1, "precision": "float32",
    "device": "cpu",
}  # fmt: skip
