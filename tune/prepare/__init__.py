"""Check every input before anything starts, and plan the launch."""
