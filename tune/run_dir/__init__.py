"""The run directory: its layout, lock, study and the check that it is whole."""
