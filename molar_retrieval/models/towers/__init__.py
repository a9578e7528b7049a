"""The two towers: a sequence model of ids and one of content, trained together."""
