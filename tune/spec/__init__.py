"""What to search: flags, YAML files and presets become one SweepSpec."""
