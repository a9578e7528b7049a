"""What is wrong with a shop's data, how much it matters, and what to do: `molar check`."""
