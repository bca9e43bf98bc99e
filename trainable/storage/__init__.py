"""Where files live: folders that are written whole or not at all, shared or in an object store."""
