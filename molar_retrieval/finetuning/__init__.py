"""`molar finetune`: the encoder learns the shop, by photos and words, attributes and words, and what people take."""
