"""The metric module that `evaluate` loads from a path, without a network."""
