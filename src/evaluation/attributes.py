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


def judge_colours(scores: Scores, labels: pd.DataFrame) -> pd.DataFrame:
    """Return one row per plate of a set in colour, of which each image has one: whether its colour is right.

    A colour is right if it is the plate's, or null where the labels have none, as in infrared light.

    Args:
        scores: Results on the set.
        labels: Labels of the set, with the column ``light``.

    Returns:
        A table with the columns colour and light of the labels, found, right (False where not found) and
        confidence (NaN where no colour is told).
    """
    rows = scores.table
    table = labels.iloc[rows["image"]][["colour", "light"]].reset_index(drop=True)
    plates = [
        _found(scores, image, found) if found >= 0 else None
        for image, found in zip(rows["image"], rows["found"], strict=True)
    ]
    table["found"] = [plate is not None for plate in plates]
    table["right"] = [
        plate is not None and (plate.colour or "") == colour
        for plate, colour in zip(plates, table["colour"], strict=True)
    ]
    table["confidence"] = np.array(
        [(plate.colour_confidence if plate else None) or np.nan for plate in plates], dtype=float
    )
    return table


def summarise_colours(scores: Scores, labels: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of a set in colour, of which each image has one plate.

    Plates that were not found are not counted.

    Args:
        scores: Results on the set.
        labels: Labels of the set, with the column ``light``.
    """
    judged = judge_colours(scores, labels)
    table = judged[judged["found"]]
    told = table.dropna(subset="confidence")
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
            told["confidence"].to_numpy(float), told["right"].to_numpy(bool)
        ),
        "not_found": len(judged) - len(table),
    }


def _found(scores: Scores, image: int, found: int) -> Plate:
    plate = scores.found[image][found]
    if not isinstance(plate, Plate):
        raise TypeError(f"{type(plate).__name__} has neither a format nor a colour")
    return plate
