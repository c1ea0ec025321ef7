"""`darkroom replay`: what it is given, the pictures made again, and what is said of them."""
