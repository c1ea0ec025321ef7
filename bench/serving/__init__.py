"""Serving pictures, side by side: stock Celery with diffusers, batches made by the client, and Darkroom."""
