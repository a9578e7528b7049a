"""What every HTML page shares: one file, its style and policy, photos, charts, wording."""
