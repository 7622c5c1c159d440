"""Update the code dependencies of the stages in dvc.yaml from their imports: ``make deps``.

With ``--check``, they are only compared. Dependencies on data are kept as they are;
src/core/dependencies.py computes those on code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from src.core.dependencies import closure
from src.core.errors import UserError

PIPELINE = Path("dvc.yaml")
PREFIX = "${src_path}/"
_MODULE = "python -m src."


def computed(name: str, stage: dict[str, Any], package: Path) -> list[str]:
    """Return the dependencies of a stage: those on data as they are, then those on code.

    Args:
        name: Name of the stage.
        stage: Definition of the stage in dvc.yaml.
        package: Root folder of the package.

    Raises:
        UserError: The command of the stage runs no module of the package.
    """
    command = str(stage.get("cmd", ""))
    path = package.joinpath(*command.removeprefix(_MODULE).split(" ")[0].split("."))
    module = path.with_name(f"{path.name}.py")
    if not command.startswith(_MODULE) or not module.is_file():
        raise UserError(
            f"dvc.yaml: {name}: cmd: {command!r} runs no module of {package.name}; write {_MODULE}…"
        )
    data = [dep for dep in stage.get("deps", []) if not dep.startswith(PREFIX)]
    root = package.resolve()
    return data + [f"{PREFIX}{file.relative_to(root).as_posix()}" for file in closure(module, root)]


def outdated(pipeline: Path, package: Path) -> dict[str, list[str]]:
    """Return the computed dependencies, by stage, of the stages whose entry in a dvc.yaml differs."""
    stages = _yaml().load(pipeline)["stages"]
    wanted = {name: computed(name, stage, package) for name, stage in stages.items()}
    return {name: deps for name, deps in wanted.items() if deps != stages[name].get("deps")}


def write(pipeline: Path, found: dict[str, list[str]]) -> None:
    """Write dependencies of stages into a dvc.yaml, and keep its comments."""
    yaml = _yaml()
    content = yaml.load(pipeline)
    for name, deps in found.items():
        content["stages"][name]["deps"] = deps
    partial = pipeline.with_name(f".{pipeline.name}.partial")
    yaml.dump(content, partial)
    partial.replace(pipeline)


def _yaml() -> YAML:
    """Return a parser that keeps comments, quotes, indentation and long lines as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = sys.maxsize
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 1 where dvc.yaml is outdated and only compared."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.dependencies",
        description="Update the code dependencies of the stages in dvc.yaml from their imports.",
    )
    parser.add_argument("--check", action="store_true", help="only compare; write nothing")
    options = parser.parse_args(arguments)
    try:
        found = outdated(PIPELINE, Path("src"))
    except (UserError, YAMLError, OSError, SyntaxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check and found:
        names = ", ".join(found)
        print(
            f"dvc.yaml: deps of {names} do not match the imports; run `make deps`", file=sys.stderr
        )
        return 1
    if found:
        write(PIPELINE, found)
    print(f"dvc.yaml: {', '.join(found) if found else 'nothing'} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
