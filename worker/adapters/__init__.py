"""LoRAs and styles, by row: each image of a model call has its own, or none; shared weights are never changed."""
