"""Every family of models that transformers classifies sequences with: what happens to a small random one of each."""
