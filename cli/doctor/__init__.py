"""`darkroom doctor` and `darkroom health`: what is wrong, and what to do about it."""
