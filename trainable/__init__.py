"""Fine-tune one text classifier: data, batches, model, loop, and the Ray adapter. Knows nothing of searching."""
