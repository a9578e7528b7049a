"""Faults of titles and descriptions: missing, short, foreign, broken, or the same as another's."""

from planting import Shop, ids, planter


@planter("text.missing")
def no_text(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for item in chosen:
        item["title"] = item["description"] = None
    return ids(chosen)


@planter("text.no_title")
def no_title(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        item["title"] = (None, "", "  ")[place % 3]
    return ids(chosen)


@planter("text.short")
def short(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        if place % 2:
            item["title"] = "A"
        else:
            item["description"] = "Nice."
    return ids(chosen)


@planter("text.filler")
def filler(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    words = (
        "N/A",
        "null",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
        "{{ product.description }}",
        "TBD",
    )
    for place, item in enumerate(chosen):
        item["description"] = words[place % len(words)]
    return ids(chosen)


@planter("text.html")
def html(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        form = ("<p>{}</p>", "{}<br/>", "{} &amp; more&nbsp;", '<span style="color:red">{}</span>')[place % 4]
        item["description"] = form.format(item["description"])
    return ids(chosen)


@planter("text.mojibake")
def mojibake(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    words = ("café", "“soft” and light", "Größe: für alle", "it’s yours", "5 € – naïve", "Łódź")
    for place, item in enumerate(chosen):
        broken = words[place % len(words)].encode("utf-8").decode("cp1252", "ignore")
        item["description"] = f"{item['description']} {broken}"
    return ids(chosen)


@planter("text.control_tokens")
def control_tokens(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    tokens = ("<|im_end|>", "[SEP]", "</s>", "<pad>", "\x07", "<|image_pad|>", "<extra_id_3>", "\u202e")
    for place, item in enumerate(chosen):
        item["title"] = f"{item['title']} {tokens[place % len(tokens)]}"
    return ids(chosen)


FOREIGN = (
    "Ein schönes Stück für jeden Tag, das mit der Zeit nur besser wird und sich gut mit anderen Farben verträgt.",
    "Une belle pièce pour tous les jours, avec des détails cousus à la main et un tissu qui est doux sur la peau.",
    "Una prenda cómoda para todos los días, hecha con algodón que es suave y no pierde su forma con los lavados.",
    "Een mooi stuk voor elke dag, dat met de jaren beter wordt en niet snel uit de mode is.",
    "Удобная вещь на каждый день, которая хорошо сочетается с другими цветами.",
    "毎日使える心地よい一着です。やわらかい生地で長く楽しめます。",
)


@planter("text.language")
def language(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        item["description"] = f"{FOREIGN[place % len(FOREIGN)]} {item['item_id']}"
    return ids(chosen)


@planter("text.mixed")
def mixed(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for place, item in enumerate(chosen):
        own = "This is one of the pieces that we like best, and it is made for all of you."
        item["description"] = f"{own} {FOREIGN[place % len(FOREIGN)]}"
    return ids(chosen)


@planter("text.title_is_description")
def title_is_description(shop: Shop) -> list[str]:
    chosen = shop.take("text")
    for item in chosen:
        item["description"] = item["title"].upper()
    return ids(chosen)


@planter("text.repeated")
def repeated(shop: Shop) -> list[str]:
    chosen = shop.take("text", max(shop.each, 8))
    for item in chosen:
        item["description"] = "The description of this item follows as soon as our photographer is back."
    return ids(chosen)
