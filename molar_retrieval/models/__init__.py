"""Models of a shop: count-based ones, content, two towers; and the ensemble of all, trained and refreshed."""
