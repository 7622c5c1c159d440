"""What is told of formats and colours is compared with what the plates are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src.evaluation.attributes import format_accuracy, summarise_colours
from src.evaluation.end_to_end import Scores, texts_of
from src.inference.reader import Plate
from tests.stack.oracle import found_plate

CORNERS = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 20.0], [10.0, 20.0]])


def scores_of(plates: list[Plate | None], formats: list[str]) -> Scores:
    """One plate per image; None where it is not found."""
    table = pd.DataFrame(
        {
            "image": range(len(plates)),
            "plate": "ZH1",
            "found": [-1 if plate is None else 0 for plate in plates],
            "format": formats,
        }
    )
    found = [[] if plate is None else [plate] for plate in plates]
    return Scores(found, table, pd.DataFrame(), [], True, [])


def test_formats_are_those_of_the_plates_that_were_found() -> None:
    plate = found_plate(CORNERS, "ZH1")
    told = [replace(plate, format="front"), replace(plate, format="front"), plate, None]
    scores = scores_of(told, ["front_long", "rear_long", "moped", "front"])
    assert len(texts_of(scores)) == 4
    measured = format_accuracy(scores)
    assert (measured["share"], measured["count"]) == (pytest.approx(1 / 3), 3)


def test_colours_are_right_or_rightly_missing() -> None:
    plate = found_plate(CORNERS, "ZH1")
    blue = replace(plate, colour="blue", colour_confidence=0.8)
    told = [blue, blue, plate, plate, blue, None]
    labels = pd.DataFrame(
        {
            "colour": ["blue", "white", "", "red", "", "blue"],
            "light": ["daylight", "daylight", "infrared", "dusk", "infrared", "dusk"],
        }
    )
    measured = summarise_colours(scores_of(told, ["front"] * 6), labels)
    assert (measured["accuracy"]["share"], measured["accuracy"]["count"]) == (0.4, 5)
    lights = {name: share["share"] for name, share in measured["by_light"].items()}
    assert lights == {"daylight": 0.5, "infrared": 0.5, "dusk": 0.0}
    assert measured["by_colour"]["blue"] == {"count": 1, "accuracy": 1.0}
    assert measured["not_found"] == 1
    # Confidences are those of the colours that were told.
    assert measured["uncertainty"]["count"] == 3
    assert measured["uncertainty"]["accuracy"] == pytest.approx(1 / 3)
