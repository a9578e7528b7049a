"""What the event log says of each day: who came, what was shown, what they did, and what of it a list brought about."""
