"""The readers: what their loss weighs, and that each can learn, also that there is nothing to read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.config import load_config
from src.core.charset import CHARSET
from src.core.layout import LAYOUT
from src.datasets.ocr import encode_texts
from src.generators.plate import FORMATS, PlateSpec, draw_plate
from src.inference.crops import recognizer_crop
from src.inference.decoding import decode, greedy
from src.models.base import LAYOUT_WEIGHT, LayoutTargets, Recognizer, layout_loss
from src.models.registry import build_recognizer
from tests.conftest import PARAMETERS

CONFIG = load_config(PARAMETERS)
SMALL = {
    "CONV_LAYERS": [8, 0, 16, 0, 16],
    "GRU_HIDDEN_SIZE": 128,
    "GRU_NUM_LAYERS": 1,
    "GRU_AVGPOOL_SIZE": [4, 18],
    "CRNN_CHANNELS": [16] * 8,
    "CRNN_HIDDEN_SIZE": 48,
    "CRNN_NUM_LAYERS": 1,
}


def small_reader(name: str) -> Recognizer:
    torch.manual_seed(1)
    params = CONFIG.OCRModelParams.model_copy(update=SMALL)
    return build_recognizer(name, CONFIG.model_copy(update={"OCRModelParams": params}))


def targets_of(texts: list[str]) -> tuple[Tensor, Tensor]:
    targets, lengths = encode_texts(texts)
    return torch.from_numpy(targets), torch.from_numpy(lengths)


def drawn(text: str, format_index: int, reader: Recognizer) -> NDArray[np.uint8]:
    """What a reader sees of a plate; of no text, an image of bars."""
    if text:
        image = cv2.cvtColor(draw_plate(PlateSpec(text, format_index), 64)[0], cv2.COLOR_RGB2GRAY)
    else:
        image = np.tile(np.repeat(np.array([40, 220], np.uint8), 8), (64, 16))
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    lines = FORMATS[format_index].lines
    return recognizer_crop(image, corners, reader.rectification, reader.input_shape, lines)


# The original's reader has no batch norm and takes twice as long.
@pytest.mark.parametrize(("name", "steps"), [("crnn", 400), ("plate_ocr_v2", 300)])
def test_reader_overfits_one_batch(name: str, steps: int) -> None:
    model = small_reader(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.GRU | torch.nn.LSTM):
            module.p = module.dropout = 0.0
    plates = [("ZH1", 0), ("AG52", 2), ("GE743", 3), ("", 0)]
    texts = [text for text, _ in plates]
    crops = np.stack([drawn(text, index, model) for text, index in plates])
    inputs = torch.from_numpy(crops)[:, None] / 255
    targets, lengths = targets_of(texts)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model(inputs), targets, lengths).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    log_probs = model.normalised(model(inputs)).detach().numpy()
    assert greedy(log_probs) == texts
    confidences = [reading.confidence for reading in decode(log_probs)]
    assert min(confidences[:3]) > 0.8
    assert confidences[3] < 0.1


def test_a_crop_with_nothing_to_read_weighs_what_a_plate_does() -> None:
    model = small_reader("crnn")
    logits = torch.zeros(2, 32, CHARSET.num_classes)
    both = [model.loss(logits[:1], *targets_of([text])) for text in ("ZH123456", "")]
    # 32 steps of chance cost one as much as the other, but for the many paths that spell a text.
    assert both[0] < both[1] < 1.5 * both[0]
    mixed = model.loss(logits, *targets_of(["ZH123456", ""]))
    torch.testing.assert_close(mixed, torch.stack(both).mean())


@pytest.mark.parametrize("texts", [["", ""], ["", "ZH1"], ["AG1111111", ""]])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_loss_of_nothing_has_a_finite_gradient(texts: list[str], device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    model = small_reader("crnn")
    generator = torch.Generator().manual_seed(1)
    logits = (4 * torch.randn(2, 32, CHARSET.num_classes, generator=generator)).to(device)
    logits.requires_grad_()
    targets, lengths = (item.to(device) for item in targets_of(texts))
    loss = model.loss(logits, targets, lengths)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    # Downhill is away from characters where there are none.
    empty = texts.index("")
    assert (logits.grad[empty, :, CHARSET.blank] < 0).all()
    assert (logits.grad[empty, :, : CHARSET.blank] >= 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_the_loss_is_the_same_on_cuda() -> None:
    model = small_reader("crnn")
    logits = torch.randn(3, 32, CHARSET.num_classes, generator=torch.Generator().manual_seed(1))
    targets, lengths = targets_of(["ZH123456", "", "AG11"])
    here = model.loss(logits, targets, lengths)
    there = model.loss(logits.cuda(), targets.cuda(), lengths.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


def test_the_layout_is_learnt_where_it_is_known() -> None:
    logits = torch.zeros(4, 7, requires_grad=True)
    complete = torch.tensor([1.0, 0.0, torch.nan, torch.nan])
    swiss = torch.tensor([1.0, 1.0, 0.0, torch.nan])
    targets = LayoutTargets(complete, swiss, torch.tensor([0, 4, -1, -1]))
    loss = layout_loss(logits, targets)
    assert loss.item() == pytest.approx((5 * np.log(2) + 2 * np.log(5)) / 4)
    loss.backward()
    known = logits.grad != 0  # type: ignore[operator]
    assert known[:, 0].tolist() == [True, True, False, False]
    assert known[:, 1].tolist() == [True, True, True, False]
    assert known[:, 2:].all(dim=1).tolist() == [True, True, False, False]


def test_the_layout_adds_to_the_loss_of_the_text() -> None:
    model = small_reader("crnn")
    logits = model(torch.rand(2, *model.input_shape))
    targets, lengths = targets_of(["ZH12", ""])
    layout = LayoutTargets(torch.tensor([1.0, 0.0]), torch.ones(2), torch.tensor([1, 2]))
    text = model.loss(logits, targets, lengths)
    both = model.loss(logits, targets, lengths, layout)
    expected = text + LAYOUT_WEIGHT * layout_loss(logits[:, 0, model.classes :], layout)
    torch.testing.assert_close(both, expected)
    # The original's recognizer tells nothing but the text.
    original = small_reader("plate_ocr_v2")
    logits = original(torch.rand(2, *original.input_shape))
    bare = original.loss(logits, targets, lengths)
    torch.testing.assert_close(original.loss(logits, targets, lengths, layout), bare)


def test_the_layout_is_the_same_at_every_step_and_no_probability() -> None:
    model = small_reader("crnn").eval()
    logits = model(torch.rand(2, *model.input_shape))
    normalised = model.normalised(logits)
    classes = CHARSET.num_classes
    hidden = logits[..., : model.classes].softmax(dim=2)[..., CHARSET.hidden]
    torch.testing.assert_close(normalised[..., :classes].exp().sum(dim=2), 1 - hidden)
    torch.testing.assert_close(normalised[..., classes:], logits[..., model.classes :])
    assert logits.shape[2] == classes + 1 + len(LAYOUT)
    assert (logits[:, :, model.classes :] == logits[:, :1, model.classes :]).all()


def test_a_hidden_character_is_told_or_nothing_is_read() -> None:
    """A recognizer with a class of hidden characters learns where they are, the original's learns no text."""
    model, original = small_reader("crnn"), small_reader("plate_ocr_v2")
    hidden, bare, nothing = (targets_of([text]) for text in ("ZH1?", "ZH1", ""))
    logits = torch.full((1, 32, CHARSET.num_classes + 1), -9.0)
    logits[..., CHARSET.blank] = 0
    for step, index in zip((3, 9, 20), hidden[0][0, :3].tolist(), strict=True):
        logits[0, step, [CHARSET.blank, index]] = torch.tensor([-9.0, 0.0])
    assert model.loss(logits, *hidden) < 0.03
    assert model.loss(logits, *bare) > 0.5
    torch.testing.assert_close(model.taught(*hidden), hidden)
    torch.testing.assert_close(original.taught(*hidden), nothing)
    plain = torch.randn(1, 18, CHARSET.num_classes)
    torch.testing.assert_close(original.loss(plain, *hidden), original.loss(plain, *nothing))
