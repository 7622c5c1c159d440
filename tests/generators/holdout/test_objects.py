"""Objects in front of the plates of the held-out test set hide what the labels say."""

from __future__ import annotations

import numpy as np

from src.core.layout import ILLEGIBLE, LEGIBLE
from src.generators.holdout import street
from src.generators.holdout.objects import hidden
from src.generators.holdout.plate import FORMATS, Plate
from src.generators.holdout.scene import HEIGHT, WIDTH, HoldoutScenes

COUNT = 60


def test_ink_is_measured_where_it_is_in_the_image() -> None:
    shape = next(item for item in FORMATS if item.lines == 1)
    plate = Plate(shape, "white", "ZH", "12", "")
    size = (shape.width, shape.height)
    camera = street.aim(
        np.eye(3), size, 300, np.array([200.0, 100.0]), 500, np.array([200.0, 100.0])
    )
    ink = np.full((20, 10), 255, np.uint8)
    left, right = (ink, (0.0, 0.0, 10.0, 20.0)), (ink, (size[0] - 10, 0.0, size[0], 20.0))
    mask = np.zeros((200, 400), np.uint8)
    assert hidden(mask, camera, plate, [left, right]) == [0, 0]
    mask[:, 200:] = 255
    assert hidden(mask, camera, plate, [left, right]) == [0, 1]
    # Beyond the image nothing can be seen.
    assert hidden(np.zeros((200, 200), np.uint8), camera, plate, [left, right]) == [0, 1]


def test_the_same_scenes_with_and_without_objects() -> None:
    images, labels = HoldoutScenes(3, occluded=True).make(range(COUNT))
    bare, whole = HoldoutScenes(3, occluded=True, objects=False).make(range(COUNT))
    assert (whole["covered"] == 0).all()
    assert (whole["plate"] == whole["text"]).all()
    assert (labels["text"] == whole["text"]).all()
    assert (labels["text"] != "").all()
    covered = labels["covered"]
    assert ((covered >= ILLEGIBLE) | (covered <= LEGIBLE)).all()
    assert 0.25 < (covered >= ILLEGIBLE).mean() < 0.65
    assert (labels["plate"][covered >= ILLEGIBLE] == "").all()
    sizes = [image.shape == (HEIGHT, WIDTH) for image in images]
    assert 0.1 < 1 - np.mean(sizes) < 0.5
    changed = [not np.array_equal(*pair) for pair in zip(images, bare, strict=True)]
    assert np.mean(changed) > 0.7
    # Whatever hides a character changes the image, or ends it.
    assert all(np.array(changed)[covered >= ILLEGIBLE])
