"""Models of other projects, by their own code in environments of their own, on our splits and by our metrics."""
