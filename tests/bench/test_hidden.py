"""What bench/hidden.py compares."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from src.inference.decoding import Reading

ROOT = Path(__file__).resolve().parents[2]


def test_shares_are_of_hidden_and_of_legible_plates() -> None:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import hidden
    finally:
        sys.path.pop(0)
    labels = pd.DataFrame(
        {
            "text": ["ZH12", "ZH34", "BE1", "BE2", "", "BE3"],
            "covered": [1.0, 0.6, 0.0, 0.1, 0.0, 0.3],
            "obstacle": ["bar", "end", "", "bar", "", "bar"],
        }
    )
    readings = [
        Reading("ZH1", 0.9, (), (-5.0,)),
        Reading("ZH3", 0.2, (), (5.0,)),
        Reading("BE1", 0.9, (), (5.0,)),
        Reading("BE2", 0.9, (), (-5.0,)),
        Reading("AG1", 0.9, (), (5.0,)),
        Reading("BE9", 0.9, (), (5.0,)),
    ]
    data = SimpleNamespace(samples=SimpleNamespace(labels=labels))
    rows = {row["decides"]: row for row in hidden.compare(data, readings)}
    assert rows["text"]["wrong_of_hidden"] == 0.5
    assert rows["complete"]["wrong_of_hidden"] == 0.5
    assert rows["text and complete"]["wrong_of_hidden"] == 0
    assert rows["text"]["read_of_legible"] == 1
    assert rows["text and complete"]["read_of_legible"] == 0.5
    assert rows["text and complete"]["read_with_something_beside"] == 0
    assert hidden.share(np.array([True]), np.array([True]), np.array([False])) is None
