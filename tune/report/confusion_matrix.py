"""A confusion matrix as an image: a row for each class, a column for each answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

MAX_CLASSES_DRAWN = 100  # of more classes no cell can be seen
SIDE_PX = 1200  # of the cells together at most
CELL_PX = 64  # of one cell at most
LEAST_PX_OF_NUMBERS = 36  # cells that are smaller have no room for the count
NAME_CHARACTERS = 24
BLUE = np.array([31, 90, 160])


def confusion_matrix(labels: Sequence[int], answers: Sequence[int], classes: int) -> npt.NDArray[np.int64]:
    """How many rows of each class got each answer, [classes, classes]."""
    cells = np.asarray(labels, dtype=np.int64) * classes + np.asarray(answers, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def confusion_image(
    labels: Sequence[int], answers: Sequence[int], label_names: Sequence[str], title: str
) -> npt.NDArray[np.uint8] | None:
    """Draw a confusion matrix; a cell is the darker, the greater its part of the class's rows.

    Args:
        labels: The class id of each row.
        answers: What the model says of each row.
        label_names: The classes, by class id.
        title: What stands above.

    Returns:
        The image, [height, width, 3]; None where there are too many classes to see anything.
    """
    classes = len(label_names)
    if classes > MAX_CLASSES_DRAWN:
        return None
    counts = confusion_matrix(labels, answers, classes)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = min(CELL_PX, SIDE_PX // classes)
    font = ImageFont.load_default(min(14, cell))
    names = [f"{_short(name)}  {i}" for i, name in enumerate(label_names)]
    left = 24 + round(max(map(font.getlength, names)))
    top = 64
    width = max(left + cell * classes + 16, 32 + round(font.getlength(title)))
    image = Image.new("RGB", (width, top + cell * classes + 16), "white")
    draw = ImageDraw.Draw(image)
    draw.text((16, 8), title, "black", font)
    for i, name in enumerate(names):
        middle = top + cell * i + cell // 2
        draw.text((left - 8, middle), name, "black", font, anchor="rm")
        draw.text((left + cell * i + cell // 2, top - 8), str(i), "black", font, anchor="mb")
        for j in range(classes):
            x, part = left + cell * j, float(parts[i, j])
            colour = tuple(int(value) for value in np.round(255 + (BLUE - 255) * part))
            draw.rectangle((x, top + cell * i, x + cell - 1, top + cell * (i + 1) - 1), colour, (225, 225, 225))
            if cell >= LEAST_PX_OF_NUMBERS:
                ink = "white" if part > 0.5 else "black"
                draw.text((x + cell // 2, middle), str(counts[i, j]), ink, font, anchor="mm")
    return np.asarray(image)


def _short(name: str) -> str:
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
