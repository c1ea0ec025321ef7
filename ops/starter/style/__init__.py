"""The style adapter of the starter model: an IP-Adapter that takes a picture's palette."""
