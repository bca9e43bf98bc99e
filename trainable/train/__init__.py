"""Train and score one trial: the loop, batches, metrics, memory."""
