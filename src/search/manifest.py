"""What a search is about, kept in its folder so that only the same search is continued there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import Config
from ..core.errors import StageError
from .spaces import Space

_NAME = "search.json"
_OWN = {"localize": "Localize", "ocr": "OCR"}


def described(config: Config, task: str, trials: int, space: Space) -> dict[str, Any]:
    """Return what makes a search what it is, by name: other values would make another one."""
    own = _OWN[task]
    sections = {f"{own}Params", f"{own}ModelParams", f"Train{own}Params"}
    others = config.model_dump(mode="json", include={"BATCH_SIZE", "models", "trainer", *sections})
    for name in space:
        section, _, parameter = name.partition(".")
        del others[section][parameter]
    sets = [config.prepared(task) / split / "meta.json" for split in ("train", "val")]
    return {
        "task": task,
        "trials": trials,
        "ranges": {name: asdict(values) for name, values in space.items()},
        "parameters": hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest(),
        "data": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sets],
    }


def claim(folder: Path, description: dict[str, Any]) -> None:
    """Write what a new search is about, or check that the one in the folder is the same.

    Raises:
        StageError: It is another one; the message names what differs.
    """
    path, text = folder / _NAME, json.dumps(description, indent=2)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
        return
    wanted = json.loads(text)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [part for part in wanted if found.get(part) != wanted[part]]
    except (ValueError, AttributeError):
        different = ["content"]
    if different:
        raise StageError(
            f"{path}: the search there has other {' and '.join(different)}. Give this one another name "
            f"with --name, or remove {folder}."
        )
