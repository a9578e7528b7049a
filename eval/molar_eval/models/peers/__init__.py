"""Models of another project, by their own code in an environment of their own, on our splits and by our metrics."""
