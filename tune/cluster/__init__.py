"""Everything about the Ray cluster and its machines: nodes, the plan, checks, tokens, jobs."""
