"""The ranges of a search: within what src/config allows, and spelled so that DVC can set them."""

from __future__ import annotations

import ast
import shlex
import shutil
from pathlib import Path

import pytest
from dvc.utils.serialize import modify_py

from src.config import PARAMS_FILE, load_config
from src.models.registry import LOCALIZERS, RECOGNIZERS
from src.search import spaces
from src.search.spaces import SPACES, Choice, Range, SpaceError
from tests.conftest import PARAMETERS

EACH = [(task, model) for task, models in SPACES.items() for model in models]


def test_every_model_has_a_space() -> None:
    assert set(SPACES["localize"]) == set(LOCALIZERS)
    assert set(SPACES["ocr"]) == set(RECOGNIZERS)


@pytest.mark.parametrize(("task", "model"), EACH)
def test_all_values_are_allowed_and_belong_to_the_stage(task: str, model: str) -> None:
    config = load_config(PARAMETERS)
    kind = {"localize": "localizer", "ocr": "recognizer"}[task]
    models = config.models.model_copy(update={kind: model})
    config = config.model_copy(update={"models": models})
    space = spaces.space_of(config, task)
    assert space is SPACES[task][model]
    assert len(space) >= 4
    own = {"localize": "Localize", "ocr": "OCR"}[task]
    assert all(name.split(".")[0] in (f"Train{own}Params", f"{own}ModelParams") for name in space)
    now = spaces.values_now(config, space)
    assert spaces.with_values(config, now) == config
    for name, values in space.items():
        if isinstance(values, Range):
            # Python spells smaller ones with an exponent.
            assert values.low == 0 or values.low >= 0.0001
            assert values.low < values.high
            assert not values.log or values.low > 0
        assert type(now[name]) is type(values.ends[0])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("TrainOCRParams.LR", 2.0, "less than or equal to 1"), ("TrainOCRParams.RATE", 0.1, "RATE")],
)
def test_a_range_that_is_not_allowed_is_named(
    name: str, value: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"ocr": {"crnn": {name: Choice((value,))}}}
    monkeypatch.setattr(spaces, "SPACES", wrong)
    with pytest.raises(SpaceError, match=rf"(?s)spaces\.py: {name}: .*{says}"):
        spaces.space_of(load_config(PARAMETERS), "ocr")


def test_values_have_three_digits_and_stay_what_they_are() -> None:
    drawn = {"A.LR": 0.0041237, "A.WARMUP": 0.29999, "A.HIDDEN": 96, "A.EMA": 0.998}
    assert spaces.rounded(drawn) == {
        "A.LR": 0.00412,
        "A.WARMUP": 0.3,
        "A.HIDDEN": 96,
        "A.EMA": 0.998,
    }


def test_dvc_sets_what_the_command_says(tmp_path: Path) -> None:
    """As `dvc exp run -S` edits the text of params.py; its least values, too."""
    values = {
        name: min(values.ends) for name, values in SPACES["ocr"]["crnn"].items()
    } | {"TrainOCRParams.LR": 0.000123}  # fmt: skip
    words = shlex.split(spaces.experiment(values))
    assert words[:3] == ["dvc", "exp", "run"]
    assert words[3::2] == ["-S"] * len(values)
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, tmp_path / name)
    for option in words[4::2]:
        file, _, assignment = option.partition(":")
        assert file == str(PARAMS_FILE)
        name, _, value = assignment.partition("=")
        section, _, parameter = name.partition(".")
        with modify_py(tmp_path / file) as content:
            content[section][parameter] = ast.literal_eval(value)
    config = load_config(tmp_path)
    assert spaces.values_now(config, SPACES["ocr"]["crnn"]) == values
