"""From files or hub data sets to checked texts, labels, splits and token ids. Begin with `load.py`."""
