"""evaluate_ocr on readers that know the answer, or are wrong where they are told to be."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from src.charset import CHARSET
from src.config import Config
from src.models.base import Reader
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


def run(reader: Reader, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_reader", lambda path: reader)
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
    by = ("canton", "digits", "height", "confidence")
    assert files_below(folder) == {
        "metrics.json",
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
    for name in ("by_digits", "by_canton", "by_height", "by_format"):
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
