"""What a person sees of a sweep: progress, status, curves, the report."""
