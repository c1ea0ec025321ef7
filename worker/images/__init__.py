"""From a request and a seed to a picture and its manifest, and back again by replay."""
