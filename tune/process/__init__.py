"""The life of this process: signals, restarts."""
