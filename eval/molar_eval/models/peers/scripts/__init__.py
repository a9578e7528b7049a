"""Scripts that run in other environments, and the one module that both sides read; nothing else of ours is there."""
