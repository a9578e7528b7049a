"""A shop for somebody's own device: all items with what ranks them, and a page that answers without a server."""
