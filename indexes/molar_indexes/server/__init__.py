"""A generation's items, and its users where that is wished, on a Qdrant server or cluster.

``config`` says which; nothing else here is imported, and qdrant-client is not, before a server is asked. ``push``
brings a generation there, ``opening`` opens one, ``published`` lists, rolls back and removes them.
"""
