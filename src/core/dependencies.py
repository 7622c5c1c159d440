"""Find the files of this package that a module depends on: its imports and the data files it declares.

The dependencies of the stages in dvc.yaml and the fingerprint of a training checkpoint consist of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LEFT_OUT = ("config", "core/errors.py")
"""Paths that do not count as dependencies.

Configuration values are already parameters of the stages, and the text of an error changes no result.
Otherwise a new parameter or a better message would retrain everything."""


def closure(module: Path, package: Path = PACKAGE) -> list[Path]:
    """Return all files that the results of a module depend on, sorted.

    These are the module itself, the modules of the package that it imports directly or indirectly, and
    the files that any of them declares as ``Path(__file__).with_name("…")``. Imports inside functions
    count; imports under ``TYPE_CHECKING`` do not.

    Args:
        module: Path of the module, inside the package.
        package: Root folder of the package.

    Raises:
        OSError: The module cannot be read.
        SyntaxError: A module is not valid Python.
    """
    found: set[Path] = set()
    waiting = [module.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found or _is_left_out(path, package):
            continue
        found.add(path)
        if path.suffix == ".py":
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            waiting += [*_imported(tree, path, package), *_declared(tree, path)]
    return sorted(found)


def _is_left_out(path: Path, package: Path) -> bool:
    name = path.relative_to(package).as_posix()
    return any(f"{name}/".startswith(f"{each}/") for each in LEFT_OUT)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _statements(child)


def _imported(tree: ast.AST, path: Path, package: Path) -> Iterator[Path]:
    """Yield the files of all relative imports: every import within the package is relative."""
    for node in _statements(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for name in node.names:
            yield from _module(base / name.name) or _module(base)


def _module(place: Path) -> list[Path]:
    """Return the file of a module, or nothing if the name is no module or a package without code."""
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return [path for path in candidates if path.is_file() and path.stat().st_size]


def _declared(tree: ast.AST, path: Path) -> Iterator[Path]:
    """Yield the paths declared as ``Path(__file__).with_name("…")``."""
    for node in _statements(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name("Path"), args=[ast.Name("__file__")]),
                    attr="with_name",
                ),
                args=[ast.Constant(str(name))],
            ):
                yield path.with_name(name)
