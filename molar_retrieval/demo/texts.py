"""Titles and descriptions of the demo shop, put together from templates.

A description tells an item's story and material. Neither it nor a title says a word about pattern or colour.
"""

from collections.abc import Sequence

import numpy as np

from molar_retrieval.demo.vocabulary import WORDS, ProductKind, Story


def title(noun: str, name: str, brand: str, material: str, rng: np.random.Generator) -> str:
    """A title such as ``Marlow T-shirt in hemp``."""
    return _filled(_one(WORDS["titles"], rng), noun, name, brand, material)


def description(
    kind: ProductKind, noun: str, name: str, brand: str, material: str, story: Story, rng: np.random.Generator
) -> str:
    """Some sentences; two of them tell the story."""
    opener = _filled(_one(WORDS["openers"][kind.department], rng), noun, name, brand, material)
    told = WORDS["stories"][story]
    first, second = (told[i] for i in rng.permutation(len(told))[:2])
    made = "" if material in opener else f"Material: {material}."
    care = _one(WORDS["care"][kind.department], rng)
    middle = [made, care]
    rng.shuffle(middle)
    sentences = [opener, first, *middle, second, _one(WORDS["closers"], rng)]
    if rng.random() < 0.4:
        sentences = [first, opener, second, *middle]
    return " ".join(sentence for sentence in sentences if sentence)


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _filled(template: str, noun: str, name: str, brand: str, material: str) -> str:
    text = template.format(noun=noun, Noun=noun[0].upper() + noun[1:], name=name, brand=brand, material=material)
    return text.replace("A umbrella", "An umbrella").replace("A armchair", "An armchair")
