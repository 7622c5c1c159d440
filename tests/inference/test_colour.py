"""The colour of a plate: learnt from examples, null where none can be told."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.core.images import load_image
from src.inference.colour import (
    CLASSES,
    COLOURS,
    FEATURES,
    NONE,
    ColourModel,
    colour_features,
    fit_colours,
)
from src.inference.decoding import Reading

GROUNDS = {"white": (240, 240, 240), "blue": (150, 190, 230), "yellow": (245, 205, 50)}
CORNERS = np.array([[60.0, 80.0], [200.0, 80.0], [200.0, 120.0], [60.0, 120.0]])


def image_of(colour: str, light: tuple[float, float, float], seed: int) -> NDArray[np.uint8]:
    """A plate with black characters on grey, in coloured light."""
    numbers = np.random.default_rng(seed)
    image = np.full((200, 260, 3), numbers.integers(60, 160), float)
    # Without any colour in an image, white is not to be told from grey.
    image[150:190, 20:120], image[10:60, 150:] = numbers.integers(40, 220, (2, 3))
    image[80:120, 60:200] = GROUNDS.get(colour, (200, 200, 200))
    image[90:110, 75:190:8] = image[90:110, 76:190:8] = 15
    image *= np.array(light) * numbers.uniform(0.5, 1.0)
    return np.clip(image + numbers.normal(size=image.shape) * 3, 0, 255).astype(np.uint8)


NOTHING = Reading("ZH1", 0.5, (0.5, 0.5))
"""A reading that tells nothing."""


def features_of(
    image: NDArray[np.uint8], confidence: float = 0.5, reading: Reading = NOTHING
) -> NDArray[np.float64]:
    values = colour_features(load_image(image), [CORNERS], [confidence], [reading])
    assert values is not None
    return values[0]


@pytest.fixture(scope="module")
def model() -> ColourModel:
    numbers = np.random.default_rng(0)
    values, colours = [], []
    for i in range(240):
        colour = (*GROUNDS, NONE)[i % 4]
        image = image_of(colour, tuple(np.exp(numbers.normal(size=3) * 0.15)), i)
        if colour == NONE:
            image = np.repeat(image[..., :1], 3, axis=2)
        values.append(features_of(image))
        colours.append(colour)
    return fit_colours(np.array(values), colours)


@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), (1.1, 1.0, 0.8), (0.85, 0.95, 1.1)])
@pytest.mark.parametrize("colour", GROUNDS)
def test_a_colour_is_told_in_coloured_light(
    model: ColourModel, colour: str, light: tuple[float, float, float]
) -> None:
    values = np.array([features_of(image_of(colour, light, seed)) for seed in range(1000, 1010)])
    told = model.colours(values)
    assert [name for name, _ in told] == [colour] * 10
    assert min(confidence or 0 for _, confidence in told) > 0.5


def test_no_colour_is_told_where_there_is_none(model: ColourModel) -> None:
    tinted = np.repeat(image_of("white", (1, 1, 1), 5000)[..., :1], 3, axis=2)
    assert model.colours(features_of(tinted)[None]) == [(None, None)]
    assert colour_features(load_image(tinted[..., 0]), [CORNERS], [0.5], [NOTHING]) is None
    assert colour_features(load_image(tinted), [], [], []) is None


def test_probabilities_are_of_all_classes(model: ColourModel) -> None:
    odds = model.probabilities(features_of(image_of("blue", (1, 1, 1), 1))[None])
    assert odds.shape == (1, len(CLASSES))
    assert odds.sum() == pytest.approx(1)
    # What was never seen is impossible.
    assert odds[0, CLASSES.index("red")] == 0
    assert (*COLOURS, NONE) == CLASSES


def test_a_large_jpeg_is_decoded_at_reduced_size(model: ColourModel) -> None:
    image = Image.fromarray(image_of("yellow", (1, 1, 1), 1))
    buffer = io.BytesIO()
    image.resize((2600, 2000)).save(buffer, "JPEG", quality=92)
    large = load_image(buffer.getvalue())
    asked = []
    decode = large.decode_colour
    assert decode is not None

    def spy(divisor: int) -> NDArray[np.uint8]:
        asked.append(divisor)
        return decode(divisor)

    values = colour_features(replace(large, decode_colour=spy), [CORNERS * 10], [0.5], [NOTHING])
    assert asked == [8]
    assert values is not None
    assert model.colours(values)[0][0] == "yellow"


@pytest.mark.parametrize(
    "corners",
    [
        CORNERS + np.array([150, 0]),
        CORNERS - np.array([150, 90]),
        CORNERS * 0.01 + 100,
        (CORNERS - 100) * 20,
    ],
)
def test_plates_at_the_edge_and_tiny_ones_have_features(corners: NDArray[np.float64]) -> None:
    values = colour_features(
        load_image(image_of("white", (1, 1, 1), 1)), [corners], [0.5], [NOTHING]
    )
    assert values is not None
    assert values.shape == (1, FEATURES)
    assert np.isfinite(values).all()


def test_what_the_recognizer_says_counts() -> None:
    """Plates of the army, and those of diplomats, have no text; a hidden plate has none either."""
    numbers = np.random.default_rng(0)
    values, colours = [], []
    for i in range(200):
        is_other = i % 2 == 1
        is_hidden = i % 3 == 0
        layout = (numbers.normal() + (-3 if is_hidden else 3), 4.0)
        confidence = numbers.uniform(0.0, 0.1) if is_other or is_hidden else numbers.uniform(0.9, 1)
        image = image_of("white", (1, 1, 1), i)
        values.append(features_of(image, confidence, replace(NOTHING, layout=layout)))
        colours.append("other" if is_other else "white")
    model = fit_colours(np.array(values), colours)
    image = image_of("white", (1, 1, 1), 1000)
    whole, hidden = replace(NOTHING, layout=(3.0, 4.0)), replace(NOTHING, layout=(-3.0, 4.0))
    read, unread, unclear = model.probabilities(
        np.array(
            [features_of(image, *case) for case in ((0.95, whole), (0.05, whole), (0.05, hidden))]
        )
    )[:, CLASSES.index("other")]
    assert read < 0.2
    assert unread > 0.8
    assert read < unclear < unread
    # Logits of any size are no more than certain.
    certain = features_of(image, 1.0, replace(NOTHING, layout=(1e9, -1e9)))
    assert np.abs(certain[-3:]).tolist() == [8.0, 8.0, 8.0]


def test_a_model_of_pixels_alone_is_one_that_hears_nothing(model: ColourModel) -> None:
    old = ColourModel(model.weights[:, :-3], model.intercepts)
    again = ColourModel.from_dict(old.to_dict())
    image = image_of("blue", (1, 1, 1), 1)
    plain = features_of(image)
    heard = features_of(image, 0.99, replace(NOTHING, layout=(5.0, 5.0)))
    assert again.probabilities(heard[None]) == pytest.approx(again.probabilities(plain[None]))
    assert again.weights.shape == (len(CLASSES), FEATURES)


def test_the_model_is_kept_as_plain_values(model: ColourModel) -> None:
    again = ColourModel.from_dict(model.to_dict())
    values = features_of(image_of("blue", (1, 1, 1), 1))[None]
    assert again.probabilities(values) == pytest.approx(model.probabilities(values), abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"classes": ["white"]}, {"weights": [[0.0]]}, {"intercepts": "none"}, {"more": 1}],
)
def test_values_that_are_no_model(model: ColourModel, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"colours|Expected|unknown field"):
        ColourModel.from_dict({**model.to_dict(), **change})
