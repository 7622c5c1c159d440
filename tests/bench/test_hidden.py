"""What bench/hidden.py compares."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.inference.decoding import Reading
from tests.benches import load


@pytest.fixture
def hidden() -> ModuleType:
    return load("hidden")


def test_texts_are_given_where_few_of_hidden_plates_are_wrong(hidden: ModuleType) -> None:
    """One of a hundred hidden plates may get a wrong text: the text alone is sure of two of them."""
    labels = pd.DataFrame(
        {"text": "ZH12", "covered": [1.0] * 100 + [0.0, 0.1, 0.3] + [0.0], "obstacle": "bar"}
    )
    labels.loc[103, "obstacle"] = ""
    sure, wrong = Reading("ZH12", 0.9, (), (5.0,)), Reading("ZH1", 0.3, (), (-5.0,))
    readings = [Reading("ZH1", 0.95, (), (-5.0,))] * 2 + [wrong] * 97 + [sure]
    readings += [sure, Reading("ZH12", 0.97, (), (-2.0,)), sure, sure]
    data = SimpleNamespace(samples=SimpleNamespace(labels=labels))
    rows = {row["decides"]: row for row in hidden.compare(data, readings)}
    assert {row["wrong_of_hidden"] for row in rows.values()} == {0.0}
    assert rows["text"]["read_of_legible"] == pytest.approx(1 / 3)
    assert rows["text"]["read_with_something_beside"] == 0.5
    for name in ("complete", "text and complete"):
        assert rows[name]["read_of_legible"] == 1


def test_nothing_is_known_of_a_set_without_hidden_plates(hidden: ModuleType) -> None:
    assert hidden.least_confidence(np.array([])) == 0
    assert hidden.share(np.array([True]), np.array([False])) is None
