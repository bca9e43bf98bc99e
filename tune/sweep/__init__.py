"""Run the trials of a sweep on Ray Tune, keep the study, and score the winner."""
