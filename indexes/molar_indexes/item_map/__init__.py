"""Content and behaviour of a generation's items side by side: two maps, and where they disagree."""
