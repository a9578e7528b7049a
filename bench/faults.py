"""All faults that can be planted in a catalogue, in the order in which they are: photos, texts, attributes."""

from importlib import import_module

from planting import BRINGS, PLANTERS, Shop, ids

__all__ = ["BRINGS", "PLANTERS", "Shop", "ids"]

for _module in ("photo_faults", "text_faults", "attribute_faults"):
    import_module(_module)  # registers its own
