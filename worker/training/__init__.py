"""Fine-tuning: a LoRA from some twenty pictures, by steps that follow from a seed and their number alone."""
