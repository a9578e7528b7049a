"""The made-up demo shop: a catalogue whose truth is known, for a first look and for tests."""

from molar_retrieval.demo.plan import plan_shop
from molar_retrieval.demo.truth import DemoShop, Purchase, ShopItem, Shopper
from molar_retrieval.demo.writer import NOTICE, DemoFacts, write_demo_shop

__all__ = ["NOTICE", "DemoFacts", "DemoShop", "Purchase", "ShopItem", "Shopper", "plan_shop", "write_demo_shop"]
