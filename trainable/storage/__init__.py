"""Where a run directory's files lie: whole folders in a shared folder or in an object store."""
