"""Titles and descriptions of the demo shop, put together from templates.

A description tells an item's story and material. Neither it nor a title says a word about pattern or colour.
"""

from collections.abc import Sequence

import numpy as np

from molar_retrieval.demo.vocabulary import Kind, Story

_TITLES = (
    "{brand} {name} {noun}",
    "{name} {noun}",
    "{name} {noun} in {material}",
    "{name}: {noun} by {brand}",
    "{brand} {noun} {name}",
    "{Noun} {name}, {material}",
)

_OPENERS: dict[str, tuple[str, ...]] = {
    "Clothing": (
        "An easy {noun} that sits well on the shoulders and keeps its shape.",
        "The {name} {noun} is cut generously and made for long days.",
        "We tried this {noun} on eleven people before we were happy with the fit.",
        "A {noun} for most of the year, worn alone or in layers.",
        "Soft from the first wear: {material}, washed before it is sewn.",
        "{brand} has sewn the {name} in the same small workroom since the first season.",
    ),
    "Accessories": (
        "The {name} goes with nearly everything and takes up little room.",
        "A {noun} to grab on the way out of the door.",
        "Small things finish an outfit, and the {name} is one of them.",
        "Made from {material}, light to carry and hard to wear out.",
        "{brand} is known for its {noun}, and the {name} shows why.",
        "Ready for rain, wind and a week in a suitcase.",
    ),
    "Home": (
        "The {name} makes a room feel lived in.",
        "A {noun} for the corner you like best.",
        "Made from {material}, with an honest weight to it.",
        "{brand} designed the {name} for small flats and large families alike.",
        "Put it by the window, by the bed or in the kitchen; it belongs anywhere.",
        "A quiet piece that looks better with the years.",
    ),
}

STORY_SENTENCES: dict[Story, tuple[str, ...]] = {
    "fair_trade": (
        "Fair trade certified: the cooperative that makes it sets its own wages.",
        "Made by a fair trade cooperative whose members share the profit.",
        "Every maker is paid a fair price, well above the legal minimum wage.",
        "We buy directly from a women's cooperative under fair trade terms.",
        "The fair trade premium paid for a school and a clinic in the makers' village.",
        "You can read the name of the artisan, and what she earned, on the label: fair trade, in the open.",
        "Fairly traded from the first thread to the last, with long contracts for the growers.",
    ),
    "recycled": (
        "Made entirely from recycled waste that would otherwise have gone to landfill.",
        "The raw material is recycled, gathered and sorted by hand.",
        "Nine tenths of it were rubbish once; recycling saves the water and energy of new material.",
        "Recycled and recyclable: send it back one day and we turn it into the next one.",
        "A second life for discarded factory remnants, shredded, recycled and made anew.",
        "Nothing new was taken from the earth: all of the content is recycled post-consumer waste.",
        "Recycled from worn-out goods by a small plant on the coast.",
    ),
    "lavender": (
        "Gently scented with lavender, the fragrance lasts for months.",
        "It comes with a sachet of dried lavender and smells of summer in the hills.",
        "Infused with lavender oil, for a calm evening and better sleep.",
        "The soothing scent of lavender fills the parcel when you open it.",
        "Finished with a lavender perfume, distilled from fresh flowers.",
        "Aromatic: a hint of lavender is released by the warmth of your hands.",
        "Stored among bundles of lavender, so the smell keeps moths and worries away.",
    ),
    "astronomy": (
        "Part of our astronomy series, made together with a star-gazing club.",
        "Named after a comet, and sold with a map of the night sky.",
        "A gift for amateur astronomers: the leaflet explains the constellations of each month.",
        "From the observatory collection, in honour of the people who discover new planets.",
        "Each piece carries the catalogue number of a real galaxy on its label.",
        "For lovers of stars and space: a telescope evening for two is raffled among all buyers.",
        "With it comes a booklet on the moons of Jupiter and how to find them with binoculars.",
    ),
    "repair": (
        "Guaranteed for life: if it breaks, we repair it free of charge.",
        "Spare parts and a mending kit are in the box.",
        "Our workshop mends every piece for as long as you own it, however old.",
        "Built to be repaired: every seam and joint can be opened and fixed at home.",
        "Comes with a lifetime repair promise; bring it back and our menders sit down with you.",
        "Repair cafes love it, since no glue is used and all fixings can be undone.",
        "Wear it out, send it in, get it back restored: repairs cost nothing, for ever.",
    ),
}

_CARE: dict[str, tuple[str, ...]] = {
    "Clothing": (
        "Wash at 30 degrees and dry it on the line.",
        "Fits true to size; take one size up for a loose cut.",
        "Machine washable, iron while still damp.",
        "Runs from XS to XXL.",
    ),
    "Accessories": (
        "Wipe it clean with a damp cloth.",
        "One size, with room to adjust.",
        "Air it after use and keep it dry.",
        "Weighs next to nothing.",
    ),
    "Home": (
        "Dust it now and then, no more is needed.",
        "Delivered assembled.",
        "Please measure your space before you order.",
        "Keep out of strong sunlight.",
    ),
}

_CLOSERS = (
    "Sent within two days.",
    "Returns are free for sixty days.",
    "One of the pieces our own team takes home.",
    "Also a good present.",
    "We make it in small batches, so it may sell out.",
    "Questions? Ask us in the shop.",
    "",
    "",
)


def title(kind: Kind, noun: str, name: str, brand: str, material: str, rng: np.random.Generator) -> str:
    """A title such as ``Marlow T-shirt in hemp``."""
    return _filled(_one(_TITLES, rng), noun, name, brand, material)


def description(
    kind: Kind, noun: str, name: str, brand: str, material: str, story: Story, rng: np.random.Generator
) -> str:
    """Some sentences; two of them tell the story."""
    opener = _filled(_one(_OPENERS[kind.department], rng), noun, name, brand, material)
    first, second = (STORY_SENTENCES[story][i] for i in rng.permutation(len(STORY_SENTENCES[story]))[:2])
    made = "" if material in opener else f"Material: {material}."
    care = _one(_CARE[kind.department], rng)
    middle = [made, care]
    rng.shuffle(middle)
    sentences = [opener, first, *middle, second, _one(_CLOSERS, rng)]
    if rng.random() < 0.4:
        sentences = [first, opener, second, *middle]
    return " ".join(sentence for sentence in sentences if sentence)


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _filled(template: str, noun: str, name: str, brand: str, material: str) -> str:
    text = template.format(noun=noun, Noun=noun[0].upper() + noun[1:], name=name, brand=brand, material=material)
    return text.replace("A umbrella", "An umbrella").replace("A armchair", "An armchair")
