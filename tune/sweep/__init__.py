"""Run the trials of a sweep and keep the study: the queue, the proposals, early stopping, the final score."""
