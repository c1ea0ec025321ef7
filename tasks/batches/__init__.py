"""Batches: jobs that were submitted as one, with a name, counts of their states, and an event when all have ended."""
