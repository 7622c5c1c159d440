"""Evaluation of what is told of a plate beside its text: its format and its colour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..core.layout import FORMAT_OF
from ..inference.reader import Plate
from . import metrics as evaluation
from .end_to_end import Scores, texts_of


def format_accuracy(scores: Scores) -> dict[str, Any]:
    """Return the share of Swiss plates with a text whose format is right, among those that were found."""
    rows = texts_of(scores)
    rows = rows[rows["found"] >= 0]
    right = [
        _found(scores, image, found).format == FORMAT_OF.get(name)
        for image, found, name in zip(rows["image"], rows["found"], rows["format"], strict=True)
    ]
    return evaluation.share(sum(right), len(right))


def summarise_colours(scores: Scores, labels: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of a set in colour, of which each image has one plate.

    A colour is right if it is the plate's, or null where the labels have none, as in infrared light.
    Plates that were not found are not counted.

    Args:
        scores: Results on the set.
        labels: Labels of the set, with the column ``light``.
    """
    rows = scores.table[scores.table["found"] >= 0]
    table = labels.iloc[rows["image"]][["colour", "light"]].reset_index(drop=True)
    plates = [
        _found(scores, image, found)
        for image, found in zip(rows["image"], rows["found"], strict=True)
    ]
    table["right"] = np.array([plate.colour or "" for plate in plates]) == table["colour"]
    confidence = np.array([plate.colour_confidence or np.nan for plate in plates], dtype=float)
    known = ~np.isnan(confidence)
    return {
        "accuracy": evaluation.share(int(table["right"].sum()), len(table)),
        "by_light": {
            str(light): evaluation.share(int(part["right"].sum()), len(part))
            for light, part in table.groupby("light")
        },
        "by_colour": evaluation.by_value(
            table[table["colour"] != ""], "colour", {"accuracy": "right"}
        ),
        "uncertainty": evaluation.uncertainty(
            confidence[known], table["right"].to_numpy(bool)[known]
        ),
        "not_found": len(scores.table) - len(rows),
    }


def _found(scores: Scores, image: int, found: int) -> Plate:
    plate = scores.found[image][found]
    if not isinstance(plate, Plate):
        raise TypeError(f"{type(plate).__name__} has neither a format nor a colour")
    return plate
