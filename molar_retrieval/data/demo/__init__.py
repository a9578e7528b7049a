"""The made-up demo shop: a catalogue whose truth is known, for a first look and for tests."""

from molar_retrieval.data.demo.catalogue import (
    NOTICE,
    DemoFacts,
    DemoShop,
    Purchase,
    ShopItem,
    Shopper,
    plan_shop,
    write_demo_shop,
)

__all__ = ["NOTICE", "DemoFacts", "DemoShop", "Purchase", "ShopItem", "Shopper", "plan_shop", "write_demo_shop"]
