"""How far a measured number can be believed: pure functions of numbers."""
