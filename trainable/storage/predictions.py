"""What a model predicts of each row of a split, on disk: the probability of each class, float16 [rows, classes].

The files are NumPy's (.npy), and hold nothing that is executed when they are read.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from trainable.storage.folders import write_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Probabilities = npt.NDArray[np.float16]

PREDICTIONS = "predictions.npy"
"""In a trial's folder: its best epoch's, of the validation split."""


def write_array(path: Path, array: npt.NDArray[np.generic]) -> int:
    """Write or replace a file; returns its bytes. Raises OSError that names a path."""
    import numpy as np  # not above: a run directory's layout names these files, and --help reads it

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    write_bytes(path, file.getvalue())
    return file.tell()


def read_predictions(path: Path, rows: int, classes: int) -> Probabilities | None:
    """What a file holds; None where it is missing, damaged or of another split.

    Args:
        path: The file.
        rows: Of the split.
        classes: How many there are.
    """
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(found, np.ndarray) or found.shape != (rows, classes) or found.dtype != np.float16:
        return None
    return found if bool(np.isfinite(found).all()) else None
