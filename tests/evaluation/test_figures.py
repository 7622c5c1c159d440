"""Images of the evaluations: rims, outlines, sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.evaluation import figures as plots

CORNERS = np.array([[10.0, 10], [50, 10], [50, 30], [10, 30]])


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()))


@pytest.mark.parametrize(("right", "rim"), [(True, plots.RIGHT), (False, plots.WRONG)])
def test_the_rim_says_right_or_wrong(right: bool, rim: plots.Colour) -> None:
    card = plots.draw_result(np.zeros((64, 64), np.uint8), [], [], right)
    for corner in [(0, 0), (card.width - 1, card.height - 1)]:
        assert card.getpixel(corner) == rim


def test_outlines_show_at_their_place_and_text_below() -> None:
    black = np.zeros((48, 96), np.uint8)
    card = plots.draw_result(
        black,
        [plots.Outline(CORNERS, plots.TRUE), plots.Outline(CORNERS + 8, plots.FOUND)],
        [plots.Line("true: ZH1", plots.TRUE)],
        right=True,
    )
    assert {plots.TRUE, plots.FOUND} <= colours(card)
    # Enlarged five times, behind a rim of 8: the middles of the two upper edges.
    assert card.getpixel((8 + 5 * 30, 8 + 5 * 10)) == plots.TRUE
    assert card.getpixel((8 + 5 * 38, 8 + 5 * 18)) == plots.FOUND
    text = card.crop((8, 8 + 5 * 48 + 1, card.width - 8, card.height - 8))
    assert plots.TRUE in colours(text)
    assert (0, 0, 0) not in colours(text)


def test_outlines_outside_of_the_image_are_no_trouble() -> None:
    far = plots.Outline(CORNERS * 1000 - 3000, plots.FOUND)
    card = plots.draw_result(np.zeros((64, 64), np.uint8), [far], [], right=False)
    assert card.getpixel((0, 0)) == plots.WRONG


def test_a_small_plate_is_cut_out_with_its_surroundings() -> None:
    image = np.arange(100 * 200, dtype=np.uint16).reshape(100, 200).astype(np.uint8)
    small = CORNERS / 4 + [150, 40]
    part, start = plots.cut_around(image, small)
    # Four times the longer side of its box, 10 pixels.
    assert part.shape == (40, 40)
    x, y = start.astype(int)
    np.testing.assert_array_equal(part, image[y : y + 40, x : x + 40])
    assert (small - start >= 0).all()
    assert (small - start <= 40).all()
    # At the image's edge it is moved, not made smaller.
    part, start = plots.cut_around(image, CORNERS / 4 + [185, 90])
    assert (part.shape, start.tolist()) == ((40, 40), [160, 60])
    # A large one stays in the whole image.
    part, start = plots.cut_around(image, CORNERS)
    assert (part.shape, start.tolist()) == ((100, 200), [0, 0])


def test_a_sheet_holds_all_cards(tmp_path: Path) -> None:
    (tmp_path / "plots" / "images").mkdir(parents=True)
    cards = [
        plots.draw_result(np.zeros((64, 64), np.uint8), [], [], right=i % 2 == 0) for i in range(5)
    ]
    sheet = plots.draw_sheet(cards)
    assert sheet.width >= 4 * cards[0].width
    assert sheet.height >= 2 * cards[0].height
    assert {plots.RIGHT, plots.WRONG} <= colours(sheet)
    plots.write_images(tmp_path, "pred", cards)
    plots.write_sheet(tmp_path, cards)
    plots.write_sheet(tmp_path, cards, "failures_formats")
    with Image.open(tmp_path / "plots" / "images" / "pred_0.png") as stored:
        assert stored.convert("RGB").getpixel((0, 0)) == plots.RIGHT
    names = sorted(path.name for path in (tmp_path / "plots" / "images").iterdir())
    assert names == [
        "failures_formats.png",
        *(f"pred_{i}.png" for i in range(5)),
        "worst_failures.png",
    ]


def test_a_sheet_of_nothing_says_so() -> None:
    sheet = plots.draw_sheet([])
    assert plots.RIGHT in colours(sheet)
    assert plots.WRONG not in colours(sheet)
