"""Reading a catalogue: columns, photos, the text of an item."""
