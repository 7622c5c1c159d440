"""What the benchmark of the checks plants, and that its figures are those of what is found."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config import Config, load_config
from src.core.charset import CHARSET
from src.quality.networks import Networks
from tests.conftest import PARAMETERS
from tests.quality.sets import finder, reader, samples_of, text_of

ROOT = Path(__file__).parents[2]
BENCH: dict[str, Any] = runpy.run_path(str(ROOT / "bench" / "quality.py"), run_name="bench")
COUNT = 300


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(PARAMETERS)


@pytest.fixture(scope="module")
def bench(config: Config) -> Any:
    return BENCH["Bench"](config, 0.02)


def test_planted_texts_are_wrong_and_obey_the_grammar() -> None:
    planted = BENCH["plant_texts"](samples_of(COUNT), 0.2, 1)
    plates = planted.samples.labels["plate"].tolist()
    wrong = [i for i in range(COUNT) if plates[i] != text_of(i)]
    assert wrong == planted.rows.tolist()
    assert len(wrong) == 60
    assert all(CHARSET.is_valid(text) for text in plates)
    lengths = {len(plates[i]) - len(text_of(i)) for i in wrong}
    assert {-1, 0, 1} <= lengths


def test_planted_boxes_are_shifted_by_a_share_of_their_width() -> None:
    samples = samples_of(COUNT)
    planted = BENCH["plant_boxes"](samples, 0.1, 1)
    moved = (planted.samples.boxes - samples.boxes)[:, :2]
    assert np.flatnonzero(np.abs(moved).max(axis=1) > 1e-9).tolist() == planted.rows.tolist()
    assert np.abs(moved[planted.rows]).max(axis=1) == pytest.approx(0.15 * 0.5)
    corners = planted.samples.corners - samples.corners
    assert corners == pytest.approx(np.repeat(moved[:, None], 4, axis=1))


def test_planted_copies_stand_behind_the_set() -> None:
    samples = samples_of(COUNT)
    planted = BENCH["plant_copies"](samples, 0.02, 1, lambda image, _: image)
    assert planted.rows.tolist() == list(range(COUNT, COUNT + 6))
    first = planted.samples.image(COUNT)
    assert any((samples.image(i) == first).all() for i in range(COUNT))
    assert (planted.samples.image(5) == samples.image(5)).all()


def test_planted_blur_takes_the_edges_away() -> None:
    samples = samples_of(COUNT)
    planted = BENCH["plant_blur"](samples, 0.02, 1)

    def edges(row: int, of: Any) -> float:
        return float(np.abs(np.diff(of.image(row).astype(float))).mean())

    shares = np.array([edges(row, planted.samples) / edges(row, samples) for row in range(COUNT)])
    assert np.flatnonzero(shares < 0.5).tolist() == planted.rows.tolist()
    assert (np.delete(shares, planted.rows) == 1).all()


def test_a_network_that_knows_finds_all_that_is_planted(bench: Any) -> None:
    planted = BENCH["plant_texts"](samples_of(COUNT), 0.02, 1)
    row = bench.check("wrong_text", planted, Networks(read=reader(text_of)))
    assert (row["planted"], row["recall"], row["precision"]) == (6, 1.0, 1.0)
    boxes = BENCH["plant_boxes"](samples_of(COUNT), 0.02, 1)
    row = bench.check("wrong_box", boxes, Networks(find=finder({})))
    assert (row["planted"], row["recall"], row["precision"]) == (6, 1.0, 1.0)


def test_a_network_that_errs_lowers_precision_and_recall(bench: Any) -> None:
    planted = BENCH["plant_texts"](samples_of(COUNT), 0.02, 1)
    plates = planted.samples.labels["plate"].tolist()
    first, clean = int(planted.rows[0]), next(i for i in range(COUNT) if i not in planted.rows)
    # It reads one of the wrong texts as given, and another sample's text as something else.
    texts = {first: plates[first], clean: "ZH1"}
    row = bench.check(
        "wrong_text", planted, Networks(read=reader(lambda i: texts.get(i, text_of(i))))
    )
    assert row["recall"] == pytest.approx(5 / 6)
    assert row["precision"] == pytest.approx(5 / 6)


def test_what_needs_no_network(bench: Any) -> None:
    rows = bench.images_and_rules(samples_of(COUNT))
    for name in ("grammar", "box", "corners", "format", "exact_duplicates", "leaked_exactly"):
        assert (rows[name]["recall"], rows[name]["precision"]) == (1.0, 1.0), name
    for name in ("near_duplicates", "leaked_nearly"):
        assert (rows[name]["recall"], rows[name]["precision"]) == (1.0, 1.0), name
    # Equal hashes find none of them, and images without edges cannot be blurred.
    assert rows["near_duplicates"]["recall_of_equal_hashes"] == 0
    assert rows["blurry"]["recall"] == 0
    shown = BENCH["table"]({"rate": 0.02, "samples": COUNT, "ocr": rows})
    assert "exact_duplicates  recall 1.000, precision 1.000, 6 planted" in shown
