"""The shop page of `molar demo --serve`: a made-up shop, its simulated visitors, and lists that change as they act."""
