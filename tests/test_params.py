"""params.py through DVC: what ``dvc exp run -S`` sets is what the stages read, or it is an error."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_py
from pydantic import BaseModel

from src.config import Config, ConfigError, load_config
from tests.conftest import PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
# src/core/charset.py fixes them: they stand in params.py to be seen, and any other value is an error.
FIXED = {
    "OCRParams.MAX_LABEL_LENGTH",
    "OCRParams.GRU_NUM_CLASSES",
    "OCRParams.GRU_BLANK_CLASS",
}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


PARAMS = _flatten(load_py(str(PARAMETERS / "params.py")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, tmp_path)
    return tmp_path


def _another(value: Any) -> Any:
    """Another valid value of a parameter, of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return round(value * 0.9, 6) if value else 0.01
    if len(value) == 3 and value[0] == 1:  # a grey image's shape
        return [1, value[1] + 12, value[2] + 12]
    return [item and _another(item) for item in value]  # a 0 is a pooling layer, or no weight


# Where a value a little larger is not allowed: the sides of boxes are odd.
_OTHER = {
    "DegradeParams.NOISE_BLUR": [3, 17],
    "PrepareOCRParams.LOWEST": 0.9,
    "StreetPlateParams.GLYPH_STROKE": [0.11, 0.15],
    "StreetPlateParams.GLYPH_WIDTH": [0.9, 1.1],
}


def _set(folder: Path, *overrides: str) -> None:
    """What ``dvc exp run -S params.py:…`` does to the file."""
    apply_overrides(str(folder / "params.py"), list(overrides))


def _read(folder: Path, name: str) -> Any:
    value: Any = load_config(folder)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _assignments() -> list[ast.AnnAssign]:
    tree = ast.parse((ROOT / "params.py").read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]


def test_dvc_sees_every_parameter() -> None:
    config = load_config(PARAMETERS).model_dump()
    strings = {"src_path", "out_path", "dataset_path", "prepared_data_path", "feedback_path"}
    strings |= {"backgrounds", "models", "trainer", "tracker", "engine", "cluster"}
    ours = _flatten({name: value for name, value in config.items() if name not in strings})
    assert ours == PARAMS


@pytest.mark.parametrize("value", ["head", "ray://head:10001", "", "a b:1"])
def test_an_address_of_a_cluster_of_another_kind_is_told(tmp_path: Path, value: str) -> None:
    for name in ("params.py", "params.yaml"):
        text = (PARAMETERS / name).read_text().replace("cluster: auto", f"cluster: {value!r}")
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml: cluster: "):
        load_config(tmp_path)


def test_the_workspace_has_the_parameters_that_the_tests_have() -> None:
    """Whatever the values are that a run or a user has set there."""
    assert set(_flatten(load_config(ROOT).model_dump())) == set(
        _flatten(load_config(PARAMETERS).model_dump())
    ), "add a new parameter to tests/parameters too"


def test_params_hold_canonical_literals_only() -> None:
    lines = (ROOT / "params.py").read_text(encoding="utf-8").splitlines()
    for node in _assignments():
        assert node.value is not None
        value = ast.literal_eval(node.value)
        items = value if isinstance(value, list) else [value]
        assert all(isinstance(item, bool | int | float) for item in items), ast.unparse(node)
        # DVC looks for " = " and str(value) on the line where the assignment starts.
        line = lines[node.lineno - 1]
        assert line.endswith(f" = {value}"), f"DVC would change nothing here: {line}"


def _by_section() -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for name in sorted(set(PARAMS) - FIXED):
        sections.setdefault(name.rpartition(".")[0], []).append(name)
    return sections


@pytest.mark.parametrize("names", _by_section().values(), ids=_by_section().keys())
def test_values_set_through_dvc_are_read_back(folder: Path, names: list[str]) -> None:
    """All of a section, many of whose names stand in others too."""
    values = {name: _OTHER.get(name, _another(PARAMS[name])) for name in names}
    _set(folder, *(f"{name}={value}" for name, value in values.items()))
    for name, value in values.items():
        assert value != PARAMS[name]
        assert _read(folder, name) == value
    others = _flatten(load_py(str(folder / "params.py")))
    assert {key for key in PARAMS if others[key] != PARAMS[key]} == set(names)


def test_a_small_learning_rate_may_be_written_in_any_way(folder: Path) -> None:
    for text, value in (("1e-3", 1e-3), ("1e-5", 1e-5), ("0.0002", 2e-4), ("5e-05", 5e-5)):
        _set(folder, f"TrainOCRParams.LR={text}")
        assert _read(folder, "TrainOCRParams.LR") == value


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_the_charset_fixes_cannot_be_set(folder: Path, name: str) -> None:
    _set(folder, f"{name}={PARAMS[name] + 1}")
    with pytest.raises(ConfigError, match=rf"params\.py: OCRParams.*{name.split('.')[1]}.*must be"):
        load_config(folder)


@pytest.mark.parametrize(
    "override", ["TrainOCRParams.EPOCH=1", "TrainOcrParams.EPOCHS=1", "BATCH=1"]
)
def test_an_unknown_name_is_refused_by_dvc(folder: Path, override: str) -> None:
    before = (folder / "params.py").read_text(encoding="utf-8")
    with pytest.raises(InvalidArgumentError) as error:
        _set(folder, override)
    assert override.split("=", maxsplit=1)[0] in str(error.value.__cause__)
    assert (folder / "params.py").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("BATCH_SIZE=0", "greater than or equal to 1"),
        ("BATCH_SIZE=32.5", "valid integer"),
        ("MULTIPROCESSING=2", "valid boolean"),
        ("MULTIPROCESSING=sometimes", ""),
        ("TrainOCRParams.EPOCHS=many", ""),
        ("TrainOCRParams.EPOCHS=0", "greater than or equal to 1"),
        ("TrainOCRParams.EPOCHS=True", "not a boolean"),
        ("TrainLocalizeParams.LR=-0.1", "greater than 0"),
        ("PrepareLocalizeParams.MAX_IMAGES=5", "greater than or equal to 10"),
        ("PrepareLocalizeParams.SEED=-1", "greater than or equal to 0"),
        ("PrepareOCRParams.TRAIN_SPLIT=1.0", "less than 1"),
        ("PlateParams.DIGIT_WEIGHTS=[1.0]", "at least 7 items"),
        ("PlateParams.FAMILY_WEIGHTS=[0.0,0.0,0.0]", "greater than 0"),
        ("SceneParams.PLATE_SCALE=[0.6,0.3]", "low <= high"),
        ("SceneParams.BACKGROUND_CROP=[20,33]", "less than or equal to 32"),
        ("DegradeParams.NOISE_WEIGHT=0.5", "valid list"),
        ("LocalizeParams.IMG_SHAPE=[3,84,84]", "grey"),
        ("PrepareStackParams.IMG_SIZE=[256,128]", "square"),
    ],
)
def test_a_wrong_value_names_file_parameter_and_what_is_allowed(
    folder: Path, override: str, allowed: str
) -> None:
    name = override.split("=", maxsplit=1)[0]
    _set(folder, override)
    with pytest.raises(ConfigError) as error:
        load_config(folder)
    message = str(error.value)
    assert "params.py" in message
    assert name in message
    assert allowed in message


def test_every_parameter_is_described() -> None:
    def undescribed(section: type[BaseModel], prefix: str = "") -> list[str]:
        names = []
        for name, field in section.model_fields.items():
            nested = field.annotation
            if isinstance(nested, type) and issubclass(nested, BaseModel):
                names += undescribed(nested, f"{prefix}{name}.")
            elif not field.description and not name.endswith("_path"):
                names.append(prefix + name)
        return names

    assert undescribed(Config) == []
