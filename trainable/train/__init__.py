"""Train and score one trial: its life, the loop, batches, states, memory."""
