"""The reader's training learns; each registered reader runs through the stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from src.config import load_config
from src.core.charset import CHARSET
from src.datasets.ocr import OCRBatch, OCRDataset, encode_texts
from src.inference import decoding
from src.models.base import Recognizer
from src.models.registry import load_recognizer
from src.ocr import train
from src.training.data import TrainingData
from src.training.recognizer import RecognizerTraining, greedy
from tests.conftest import set_params, set_texts


@pytest.mark.parametrize("name", ["crnn", "plate_ocr_v2"])
def test_reader_runs_through_the_stage_and_its_loss_falls(
    name: str, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_texts(tiny_workspace, "recognizer: crnn", f"recognizer: {name}")
    for path in (tiny_workspace / "data/prepared/ocr").glob("*/labels-*.parquet"):
        labels = pd.read_parquet(path)
        labels.loc[::5, "plate"] = ""
        labels.loc[::5, "lines"] = 2
        labels.to_parquet(path)
    set_params(
        tiny_workspace,
        {
            "OCRModelParams.CONV_LAYERS": [4, 0, 8, 0, 8, 0],
            "OCRModelParams.GRU_AVGPOOL_SIZE": [4, 18],
            "OCRModelParams.GRU_HIDDEN_SIZE": 16,
            "OCRModelParams.GRU_NUM_LAYERS": 1,
            "TrainOCRParams.EPOCHS": 12,
            "TrainOCRParams.PATIENCE": 1000,
            "TrainOCRParams.VALIDATE_EVERY": 4,
        },
    )
    train.main(load_config(tiny_workspace))
    plots = tiny_workspace / "out/runs/ocr/plots/metrics/val"
    loss = pd.read_csv(plots / "loss.tsv", sep="\t")["loss"]
    assert len(loss) == 12
    assert loss.iloc[-1] < 0.6 * loss.iloc[0]
    assert pd.read_csv(plots / "exact_match.tsv", sep="\t")["exact_match"].between(0, 1).all()
    model = load_recognizer(tiny_workspace / "out/models/ocr/model.safetensors")
    assert model.rectification == {"crnn": "corners", "plate_ocr_v2": "box"}[name]


def test_greedy_is_that_of_the_decoder() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few classes, so that repeats and blanks are many and some texts are too long.
    paths = torch.randint(33, 37, (300, 18), generator=generator)
    logits = torch.nn.functional.one_hot(paths, CHARSET.num_classes).float()
    found = greedy(logits, CHARSET.blank, CHARSET.max_length)
    texts = decoding.greedy(logits.numpy())
    assert {len(text) > CHARSET.max_length for text in texts} == {True, False}
    for text, row in zip(texts, found.tolist(), strict=True):
        # The classes are digits, a character each.
        classes = [CHARSET.tokens.index(c) for c in text]
        fill = CHARSET.max_length - len(classes)
        # Too long a text is no text, and not nothing either, which would be right at times.
        assert row == (classes + [CHARSET.blank] * fill if fill >= 0 else [-1] * len(row))


class Fixed(Recognizer):
    """Gives the logits that it was made with."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__({}, [1, 32, 128], "corners", CHARSET.blank)
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(images)]


def test_nothing_is_right_where_there_is_nothing_to_read(tiny_workspace: Path) -> None:
    config = load_config(tiny_workspace)
    texts = ["", "", "ZH1", "ZH1", ""]
    long = [CHARSET.tokens.index(digit) for digit in "123456789"]
    paths = [[], [3], CHARSET.encode("ZH1"), [], long]
    logits = torch.zeros(len(paths), 32, CHARSET.num_classes)
    logits[:, :, CHARSET.blank] = 5
    for row, path in zip(logits, paths, strict=True):
        for step, index in enumerate(path):
            row[2 * step, index] = 9
    dataset = OCRDataset(
        tiny_workspace / "data/prepared/ocr/val", "corners", (1, 32, 128), config.TrainOCRParams
    )
    module = RecognizerTraining(
        Fixed(logits), TrainingData(dataset, dataset, config.TrainOCRParams, 5)
    )
    targets, lengths = (torch.from_numpy(item) for item in encode_texts(texts))
    images, unknown = torch.zeros(5, 32, 128, dtype=torch.uint8), torch.full((5,), torch.nan)
    none = torch.full((5,), -1)
    batch = OCRBatch(images, targets, lengths, unknown, unknown, none)
    sums = module.batch_sums(batch)
    assert sums["exact_match"] == 2
    assert sums["loss"] == pytest.approx(5 * float(module.batch_loss(batch)))
