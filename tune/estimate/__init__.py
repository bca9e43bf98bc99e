"""How long a sweep takes and what it costs, told before it starts."""
