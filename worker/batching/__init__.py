"""The shared denoiser: calls of many images become one model call, on the one thread that owns the model."""
