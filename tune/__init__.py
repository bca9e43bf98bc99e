"""Search the hyperparameters of a fine-tuned text classifier: what to train, where, and what to believe of it."""
