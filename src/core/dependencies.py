"""Which files of this package a module runs: what it imports, and the data files that it declares.

The dependencies of stages in dvc.yaml, and the fingerprint of a training's checkpoint, are this.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LEFT_OUT = ("config", "core/errors.py")
"""Values of the configuration are parameters of the stages already, and the text of an error changes no
result: a new parameter or a better message would otherwise train everything again."""


def closure(module: Path, package: Path = PACKAGE) -> list[Path]:
    """Return all files that the results of a module depend on, sorted.

    These are the module, the modules of the package that it imports, directly or through others, and
    the files that any of them declares as ``Path(__file__).with_name("…")``. Imports inside functions
    count; those for type checkers alone do not.

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
    """Files of the relative imports, which are all imports inside the package."""
    for node in _statements(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for name in node.names:
            yield from _module(base / name.name) or _module(base)


def _module(place: Path) -> list[Path]:
    """The file of a module; nothing for names that are not modules, and packages without code."""
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return [path for path in candidates if path.is_file() and path.stat().st_size]


def _declared(tree: ast.AST, path: Path) -> Iterator[Path]:
    """Files named by ``Path(__file__).with_name("…")`` that exist."""
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
