"""The classifier: its weights, faster layers, a sliced embedding."""
