"""What a log says of all its people with noise (differential privacy), and how much of that was released so far."""
