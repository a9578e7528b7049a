"""`molar tune`: which settings this shop's own validation prefers, and whether that holds for people it did not see."""
