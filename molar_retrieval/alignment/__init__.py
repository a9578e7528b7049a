"""The post-alignment network and its training."""
