"""What needs a GPU: `pytest -m gpu` on a machine that has one."""
