"""From ranking quality to money: revenue and conversion on held-out purchases, and off-policy evaluation from a log."""
