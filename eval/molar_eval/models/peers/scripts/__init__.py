"""Scripts that run in another environment, and the one module that both sides read; nothing else of ours is there."""
