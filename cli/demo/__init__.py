"""`darkroom demo`: a server, a worker and two pictures, and what it takes to start and stop them."""
