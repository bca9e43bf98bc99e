"""The run directory: what its files are called, its lock, its study, and whether everything in it is whole."""
