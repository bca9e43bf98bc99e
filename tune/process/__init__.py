"""The life of the driver's process: signals, restarts, and a watch over the Ray that it needs."""
