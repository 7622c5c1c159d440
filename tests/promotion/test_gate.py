"""What the gate refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.datasets.annotations import AnnotatedImage, AnnotatedPlate
from src.evaluation.end_to_end import score
from src.promotion import gate
from src.promotion.gate import RIGHT, Verdict, judge, tabulate
from tests.stack.oracle import OracleStack
from tests.standins import AnnotatedImages, image_of, plate_text, true_corners

COSTS = {"size": (4e6, 4e6), "latency": (2.0, 2.0)}
COUNT = 1000


def right(wrong: Any = (), count: int = COUNT) -> np.ndarray:
    values = np.ones(count, bool)
    values[list(wrong)] = False
    return values


def table(wrong: Any = (), **slices: Any) -> pd.DataFrame:
    return pd.DataFrame({RIGHT: right(wrong), **slices})


def verdict(promoted: Any, candidate: Any, **options: Any) -> Verdict:
    return judge(promoted, candidate, options.get("primary", "val"), options.get("costs", COSTS))


def test_better_by_enough_passes() -> None:
    result = verdict({"val": table(range(10))}, {"val": table(range(3))})
    assert result.passes
    assert result.sets[0].p_better == pytest.approx(2**-7)


@pytest.mark.parametrize(
    ("candidate", "says"),
    [(range(4), None), (range(6), "not better on val: 4 plates gained, 0 lost"),
     (range(10), "not better"), (range(20), "not better"),
     ([*range(3), *range(100, 106)], "7 plates gained, 6 lost")],
)  # fmt: skip
def test_better_by_chance_does_not(candidate: Any, says: str | None) -> None:
    result = verdict({"val": table(range(10))}, {"val": table(candidate)})
    assert result.passes == (says is None)
    if says:
        assert says in result.reasons[0]


def test_the_margin_of_other_sets() -> None:
    promoted = {"val": table(range(10)), "shifted": table(range(200))}
    for lost, passes in ((5, True), (6, False)):
        candidate = {"val": table(), "shifted": table(range(200 + lost))}
        result = verdict(promoted, candidate)
        assert result.passes == passes
    assert result.reasons == ["worse on shifted by 0.60%; at most 0.50% is allowed"]
    # What is worse on the primary set is no matter of margins; on another primary set it may be.
    result = verdict(
        promoted, {"val": table(range(12)), "shifted": table(range(100))}, primary="shifted"
    )
    assert result.passes


def test_slices_are_corrected_for_their_number() -> None:
    """Six of fifty lost and none gained: chance does that in one of 64 slices."""
    few = ["ZH"] * 50 + ["BE"] * 950
    many = [f"{i // 50}" for i in range(COUNT)]
    before, after = range(60, 80), range(6)
    few_result = verdict({"val": table(before, canton=few)}, {"val": table(after, canton=few)})
    (reason,) = few_result.reasons
    assert reason.startswith("worse on the slice val, canton ZH by 12.00% (corrected p = 0.031")
    many_result = verdict({"val": table(before, canton=many)}, {"val": table(after, canton=many)})
    assert len(many_result.slices) == 20
    assert many_result.passes


def test_small_slices_are_not_looked_at() -> None:
    cantons = ["ZH"] * (gate.LEAST_SLICE - 1) + ["BE"] * (COUNT - gate.LEAST_SLICE + 1)
    result = verdict(
        {"val": table(range(60, 90), canton=cantons)}, {"val": table(range(15), canton=cantons)}
    )
    assert [each.name for each in result.slices] == ["val, canton BE"]
    assert result.passes


def test_what_it_costs() -> None:
    better = {"val": table(range(10))}, {"val": table()}
    assert verdict(*better, costs={"size": (4e6, 5e6), "latency": (2.0, 2.5)}).passes
    result = verdict(*better, costs={"size": (4e6, 5.1e6), "latency": (2.0, 2.6)})
    assert [reason.split(":")[0] for reason in result.reasons] == ["size", "latency"]


def test_the_table_names_everything() -> None:
    promoted = {"val": table(range(10)), "shifted": table(range(200))}
    text = tabulate(verdict(promoted, {"val": table(), "shifted": table(range(205))}))
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == [
        "val",
        "(primary)",
        "1000",
        "0.9900",
        "1.0000",
        "10",
        "0",
        "0.00098",
        "better",
    ]
    assert lines[2][:6] == ["shifted", "1000", "0.8000", "0.7950", "0", "5"]
    assert text.endswith("2          2")


def test_hidden_plates_are_right_without_a_wrong_text() -> None:
    plates = [plate_text(i) for i in range(6)]
    labels = pd.DataFrame(
        {
            "text": plates,
            "covered": [1.0, 1.0, 1.0, 0.0, 0.0, 0.3],
            "format": "front",
            "obstacle": "",
        }
    )
    items = [AnnotatedImage(str(i), image_of(i, (256, 256)), [hidden_plate(i)]) for i in range(6)]
    stack = OracleStack(wrong={1, 4}, confidences={0: 0.1, 5: 0.9})
    scores = score(stack, AnnotatedImages(items), "occluded")
    table = gate.hidden_right(scores, labels, 0.5)
    # Silent, wrong, right all the same; read, misread. What is half hidden is not judged.
    assert table[RIGHT].tolist() == [True, False, True, True, False]
    assert table["hidden"].tolist() == ["illegible"] * 3 + ["legible"] * 2


def test_a_colour_is_right_where_the_plate_is_found() -> None:
    labels = pd.DataFrame({"colour": ["blue", "white", "", "blue"], "light": "dusk"})
    items = [AnnotatedImage(str(i), image_of(i, (256, 256)), [hidden_plate(i)]) for i in range(4)]
    scores = score(OracleStack(missed={3}, colour="blue"), AnnotatedImages(items), "colours")
    table = gate.colours_right(scores, labels)
    assert table[RIGHT].tolist() == [True, False, False, False]
    assert [*table] == [RIGHT, "colour", "light"]


def hidden_plate(i: int) -> AnnotatedPlate:
    corners = true_corners(i) * 256
    return AnnotatedPlate(None, np.concatenate([corners.min(axis=0), corners.max(axis=0)]), corners)
