"""A job's life, from its claim to its ending; nothing here knows a model."""
