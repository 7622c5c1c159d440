"""evaluate_ocr on readers that know the answer, or are wrong where they are told to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from src.config import Config
from src.core.charset import CHARSET
from src.models.base import Recognizer
from src.ocr import evaluate
from tests.standins import (
    OracleReader,
    config_below,
    files_below,
    metrics_of,
    plate_text,
    prepared_set,
)

COUNT = 30


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_below(tmp_path)
    prepared_set(config.prepared("ocr") / "val", (60, 120), COUNT)
    return config


def run(reader: Recognizer, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_recognizer", lambda path: reader)
    evaluate.main(config)


@pytest.mark.parametrize("rectification", ["corners", "box"])
def test_a_perfect_reader(
    rectification: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(OracleReader(rectification=rectification), config, monkeypatch)
    metrics = metrics_of(config, "ocr")
    assert metrics["accuracy"] == metrics["accuracy_greedy"] == 1
    assert metrics["character_error_rate"] == 0
    assert metrics["accuracy_95"]["high"] == 1
    assert metrics["backgrounds"] == "procedural"
    folder = config.out("evaluations", "ocr")
    confusion = pd.read_csv(folder / "plots" / "confusion.csv", dtype={"actual": str})
    assert (confusion["actual"] == confusion["predicted"].astype(str)).all()
    characters = sum(len(CHARSET.encode(plate_text(i))) for i in range(COUNT))
    assert confusion["count"].sum() == characters
    by = ("canton", "digits", "height", "angle", "confidence")
    assert files_below(folder) == {
        "metrics.json",
        "plots/confidence.csv",
        "plots/confusion.csv",
        *(f"plots/accuracy_by_{name}.csv" for name in by),
        *(f"plots/images/pred_{i}.png" for i in range(10)),
        "plots/images/worst_failures.png",
    }


def test_wrong_texts_are_counted_where_they_are(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {1, 7, 13, 20}
    run(OracleReader(wrong=wrong), config, monkeypatch)
    metrics = metrics_of(config, "ocr")
    assert metrics["accuracy"] == pytest.approx(1 - len(wrong) / COUNT, abs=1e-5)
    # One character of each is wrong.
    letters = sum(len(plate_text(i)) for i in range(COUNT))
    assert metrics["character_error_rate"] == pytest.approx(len(wrong) / letters, abs=1e-5)
    for name in ("by_digits", "by_canton", "by_height", "by_angle", "by_format"):
        groups = metrics[name].values()
        assert sum(group["count"] for group in groups) == COUNT
        lost = sum(group["count"] * (1 - group["accuracy"]) for group in groups)
        assert lost == pytest.approx(len(wrong), abs=1e-3)
    texts = [plate_text(i) for i in wrong]
    canton = texts[0][:2]
    assert metrics["by_canton"][canton]["accuracy"] < 1
    assert metrics["by_format"]["front"] == {
        "count": 15,
        "accuracy": pytest.approx(14 / 15, abs=1e-5),
    }
    path = config.out("evaluations", "ocr") / "plots" / "confusion.csv"
    confusion = pd.read_csv(path, dtype={"actual": str, "predicted": str})
    errors = confusion[confusion["actual"] != confusion["predicted"]]
    assert errors["count"].sum() == len(wrong)


class ReaderOfZeros(OracleReader):
    """Sees a zero before every number, though the true digit is nearly as likely."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        zero = CHARSET.tokens.index("0")
        return torch.cat([logits[:, :4], zero_step(zero, len(logits)), logits[:, 4:]], dim=1)


def zero_step(zero: int, count: int) -> Tensor:
    step = torch.zeros(count, 1, CHARSET.num_classes)
    step[:, :, zero], step[:, :, CHARSET.blank] = 9.0, 8.0
    return step


def test_the_grammar_is_measured_beside_the_raw_path(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ReaderOfZeros(), config, monkeypatch)
    metrics = metrics_of(config, "ocr")
    assert metrics["accuracy_greedy"] == 0
    assert metrics["accuracy"] == 1
    letters = sum(len(plate_text(i)) for i in range(COUNT))
    assert metrics["character_error_rate_greedy"] == pytest.approx(COUNT / letters, abs=1e-5)


class Refusing(OracleReader):
    """Reads nothing, or something that it is sure of, where it is told to.

    Args:
        nothing: images in which it sees nothing.
    """

    def __init__(self, nothing: set[int]) -> None:
        super().__init__()
        self.nothing = nothing

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        centres = (images[:, 0, 16, 64] * 255).round().int().tolist()
        for row, i in zip(logits, centres, strict=True):
            if i in self.nothing:
                row[:] = 0
                row[:, CHARSET.blank] = 20
        return logits


def relabel(config: Config, nothing: set[int], **columns: object) -> None:
    """Take the texts of some samples away, and set other labels."""
    path = config.prepared("ocr") / "val" / "labels-00000.parquet"
    labels = pd.read_parquet(path).assign(**columns)
    labels.loc[sorted(nothing), "plate"] = ""
    labels.to_parquet(path)


def test_nothing_to_read_is_measured_by_the_texts_it_is_given(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = set(range(0, COUNT, 3))
    relabel(config, nothing, style=["scene", "street"] * (COUNT // 2))
    # It is sure of a text in two crops without one, and of none in one with a text.
    run(Refusing(nothing - {0, 3} | {1}), config, monkeypatch)
    metrics = metrics_of(config, "ocr")
    assert (metrics["count"], metrics["count_with_text"]) == (30, 20)
    assert metrics["accuracy"] == metrics["accuracy_greedy"] == pytest.approx(19 / 20)
    assert metrics["refused"] == pytest.approx(1 / 20)
    # Image 1 has an odd number: street, and rear_long.
    assert metrics["by_style"]["scene"]["accuracy"] == 1
    assert metrics["by_style"]["street"] == {"count": 10, "accuracy": pytest.approx(0.9)}
    assert "by_lines" not in metrics
    refusals = metrics["nothing_to_read"]
    assert refusals["false_texts"]["count"] == 10
    assert refusals["false_texts"]["share"] == pytest.approx(0.2)
    assert refusals["false_texts"]["low"] < 0.2 < refusals["false_texts"]["high"]
    assert refusals["false_texts_greedy"] == pytest.approx(0.2)
    # Of the false ones, image 0 is a scene, and 3 a street.
    assert refusals["by_style"]["scene"] == {"count": 5, "false_texts": pytest.approx(0.2)}
    assert refusals["by_format"]["front"]["count"] == 5
    plots = config.out("evaluations", "ocr") / "plots"
    confidence = pd.read_csv(plots / "confidence.csv")
    assert confidence["confidence"].tolist() == pytest.approx([0.025 + 0.05 * i for i in range(20)])
    # The oracle is sure of each of 32 steps by 0.99: of a text by 0.7.
    for name, low in (("text", 0.05), ("nothing", 0.8)):
        assert confidence[name][0] == pytest.approx(low)
        assert confidence[name][12:16].sum() == pytest.approx(1 - low)
    # The tables of hard cases are those of texts.
    for name in ("canton", "digits", "height", "angle", "confidence"):
        assert pd.read_csv(plots / f"accuracy_by_{name}.csv")["count"].sum() == 20
    characters = sum(len(CHARSET.encode(plate_text(i))) for i in range(COUNT) if i not in nothing)
    confusion = pd.read_csv(plots / "confusion.csv", dtype=str)
    assert confusion["count"].astype(int)[confusion["actual"] != "(none)"].sum() == characters


@pytest.mark.parametrize("nothing", [set(), set(range(COUNT))])
def test_sets_of_texts_alone_and_of_none(
    nothing: set[int], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel(config, nothing)
    run(Refusing(nothing), config, monkeypatch)
    metrics = metrics_of(config, "ocr")
    assert metrics["count_with_text"] == COUNT - len(nothing)
    assert metrics["accuracy"] == (None if nothing else 1)
    assert metrics["nothing_to_read"]["false_texts"]["count"] == len(nothing)
    assert metrics["nothing_to_read"]["false_texts"]["share"] == (0 if nothing else None)


def test_two_lines_are_cut_as_two(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    relabel(config, set(), lines=[1, 2, 2] * (COUNT // 3))
    seen: list[int] = []
    cut = evaluate.recognizer_crop

    def spy(*arguments: Any) -> Any:
        seen.append(arguments[-1])
        return cut(*arguments)

    monkeypatch.setattr(evaluate, "recognizer_crop", spy)
    run(OracleReader(wrong={1, 4}), config, monkeypatch)
    assert seen[:COUNT] == [1, 2, 2] * (COUNT // 3)
    lines = metrics_of(config, "ocr")["by_lines"]
    assert lines == {
        "1": {"count": 10, "accuracy": 1},
        "2": {"count": 20, "accuracy": pytest.approx(0.9)},
    }


def test_images_of_nothing_say_so(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    relabel(config, set(range(COUNT)), plate_height=np.nan)
    lines: list[str] = []
    line = evaluate.plots.Line

    def spy(text: str, *rest: Any) -> Any:
        lines.append(text)
        return line(text, *rest)

    monkeypatch.setattr(evaluate.plots, "Line", spy)
    run(OracleReader(), config, monkeypatch)
    assert "true: nothing to read" in lines
    assert not any("nan" in line for line in lines)
