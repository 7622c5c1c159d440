"""Validated parameters of params.py and params.yaml: names, types and ranges.

``load_config()`` reads both files of the current folder. The values are in those two files only; the
modules of this package document the meaning and the allowed values of each parameter. An error message
names the file, the parameter and what is allowed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from ..core.errors import UserError
from .models import LocalizeModelParams, LocalizeParams, ModelsConfig, OCRModelParams, OCRParams
from .plates import PlateParams, StreetPlateParams
from .quality import QualityParams
from .scenes import DegradeParams, SceneParams, StreetParams
from .sets import (
    BackgroundsConfig,
    PrepareFeedbackParams,
    PrepareLocalizeParams,
    PrepareOCRParams,
    PrepareStackParams,
)
from .training import (
    EvaluateLocalizeParams,
    EvaluateOCRParams,
    EvaluateStackParams,
    FinetuneLocalizeParams,
    FinetuneOCRParams,
    TrainerConfig,
    TrainLocalizeParams,
    TrainOCRParams,
)
from .types import Count, Section

PARAMS_FILE = Path("params.py")
PATHS_FILE = Path("params.yaml")


class ConfigError(UserError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class Config(Section):
    """All parameters: classes of params.py and sections of params.yaml."""

    MULTIPROCESSING: Annotated[bool, Field(strict=True)]
    """Flag that makes the prepare_* stages use all CPU cores."""
    BATCH_SIZE: Annotated[Count, Field(le=65536)]
    """Number of samples per training batch."""
    PlateParams: PlateParams
    StreetPlateParams: StreetPlateParams
    StreetParams: StreetParams
    SceneParams: SceneParams
    DegradeParams: DegradeParams
    LocalizeParams: LocalizeParams
    PrepareLocalizeParams: PrepareLocalizeParams
    LocalizeModelParams: LocalizeModelParams
    TrainLocalizeParams: TrainLocalizeParams
    EvaluateLocalizeParams: EvaluateLocalizeParams
    FinetuneLocalizeParams: FinetuneLocalizeParams
    OCRParams: OCRParams
    PrepareOCRParams: PrepareOCRParams
    OCRModelParams: OCRModelParams
    TrainOCRParams: TrainOCRParams
    FinetuneOCRParams: FinetuneOCRParams
    EvaluateOCRParams: EvaluateOCRParams
    PrepareStackParams: PrepareStackParams
    EvaluateStackParams: EvaluateStackParams
    PrepareFeedbackParams: PrepareFeedbackParams
    QualityParams: QualityParams

    src_path: str
    out_path: str
    dataset_path: str
    prepared_data_path: str
    feedback_path: str
    backgrounds: BackgroundsConfig
    models: ModelsConfig
    tracker: Literal["none", "wandb"]
    """Experiment tracker that training metrics are logged to, in addition to DVCLive and TensorBoard."""
    engine: Literal["local", "ray"]
    """Where the prepare_* stages draw their sets: on this machine, or on a Ray cluster."""
    cluster: Annotated[str, Field(pattern=r"^(auto|[^\s/]+:\d+)$")]
    """Ray cluster: auto for that of RAY_ADDRESS or of this machine, or the address of its head as
    host:port."""
    trainer: TrainerConfig

    @property
    def backgrounds_folder(self) -> Path:
        """Folder that fetch_backgrounds writes."""
        return Path(self.dataset_path) / "backgrounds"

    def prepared(self, task: str) -> Path:
        """Folder of the prepared sets of ``localize``, ``ocr``, ``stack`` or ``feedback``."""
        return Path(self.prepared_data_path) / task

    def out(self, kind: str, task: str) -> Path:
        """Folder of a task's outputs: ``prepared``, ``runs``, ``checkpoints``, ``models``."""
        return Path(self.out_path) / kind / task


def _read_params(path: Path) -> dict[str, Any]:
    """Return the assignments of params.py, parsed as literals as DVC does, without running the file."""
    body = ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body
    return _read_assignments(body, path.name, "")


def _read_assignments(body: list[ast.stmt], file: str, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            values[node.name] = _read_assignments(node.body, file, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            try:
                values[node.target.id] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ConfigError(
                    f"{file}: {prefix}{node.target.id}: expected a number, True, False or a list "
                    f"of numbers (got {ast.unparse(node.value)})"
                ) from error
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            raise ConfigError(
                f"{file}: line {node.lineno}: only `NAME: type = value` and classes of such lines "
                f"are allowed (got {ast.unparse(node)})"
            )
    return values


def load_config(folder: Path = Path()) -> Config:
    """Read and check params.py and params.yaml.

    Args:
        folder: Folder of both files; by default the current folder, because DVC runs stages in the root.

    Raises:
        ConfigError: If a file is missing or cannot be parsed, or a parameter is unknown, missing, of
            the wrong type or out of range.
    """
    python, strings = folder / PARAMS_FILE, folder / PATHS_FILE
    try:
        values = _read_params(python)
    except (OSError, SyntaxError) as error:
        raise ConfigError(f"{python}: cannot read the file: {error}") from error
    try:
        texts = yaml.safe_load(strings.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{strings}: cannot read the file: {error}") from error
    if not isinstance(texts, dict):
        raise ConfigError(f"{strings}: expected a mapping of parameters")
    if both := sorted(set(texts) & set(values)):
        raise ConfigError(f"{strings}: {', '.join(both)}: already set in {python}; remove it here")
    try:
        return Config(**{**texts, **values})
    except ValidationError as error:
        raise ConfigError(_explain(error, python, set(texts) - set(values))) from error


def _explain(error: ValidationError, python: Path, texts: set[str]) -> str:
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        file = PATHS_FILE if place and place[0] in texts else python.name
        what = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _known_names(place[:-1])
            what = f"unknown parameter; expected one of: {', '.join(known)}"
        elif item["type"] == "missing":
            what = "missing parameter"
        else:
            what = f"{what} (got {item['input']!r})"
        lines.append(f"{file}: {'.'.join(place)}: {what}")
    return "\n".join(lines)


def _known_names(place: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for name in place:
        section = section.model_fields[name].annotation  # type: ignore[assignment]  # nested section
    return list(section.model_fields)
