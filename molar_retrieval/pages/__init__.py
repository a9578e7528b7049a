"""What every HTML page shares: one file, its style and policy, pictures, plots, words."""
