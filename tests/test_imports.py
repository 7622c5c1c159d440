"""Which module may import which: one way from the generators to the stages, and no needless torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "src").rglob("*.py"))
}
STAGE_PACKAGES = ["src.localize", "src.ocr", "src.stack"]
STAGES = [*STAGE_PACKAGES, "src.fetch_backgrounds"]
FORBIDDEN = {
    "src.generators": [*STAGES, "src.datasets", "src.models"],
    "src.datasets": [*STAGES, "src.models"],
    "src.models": STAGES,
    "src.utils": STAGES,
    # It shows what the others have written.
    "src.dashboard": [
        "src.serve",
        "src.quality",
        "src.datasets",
        "src.models",
        "src.generators",
        "src.localize",
        "src.ocr",
        "src.stack.evaluate",
        "src.stack.export",
    ],
    **{stage: [other for other in STAGES if other != stage] for stage in STAGES},
}
# They import it themselves; the whole of safetensors and of DVCLive does not.
TORCH = ["torch", "torchvision", "torchmetrics", "lightning", "safetensors.torch",
         "dvclive.lightning"]  # fmt: skip
WITHOUT_TORCH = ["src.charset", "src.calibration", "src.geometry", "src.decoding", "src.config",
                 "src.generators", *(f"{package}.prepare" for package in STAGE_PACKAGES),
                 "src.read", "src.stack.reader", "src.bundle", "src.runtimes", "src.images",
                 "src.drawing", "src.detection", "src.serve", "src.flywheel",
                 "src.dashboard"]  # fmt: skip


def _within(name: str, packages: list[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _nodes(node: ast.AST, *, at_once: bool) -> Iterator[ast.AST]:
    """The nodes below; with ``at_once`` those alone that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if at_once and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_once and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if at_once and isinstance(child, ast.If) and "__main__" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child, at_once=at_once)


@cache
def _imports(module: str, *, at_once: bool = False) -> frozenset[str]:
    """What a module imports, directly: modules, and names of modules."""
    found = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in _nodes(tree, at_once=at_once):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{module}: a relative import, which this test does not follow"
            assert not node.level, f"{module}: a relative import, which this test does not follow"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def _torch_by(module: str) -> list[str] | None:
    """The way from a module to torch when it is imported: the modules between; None: there is none."""
    ways = {module: [module]}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        for name in sorted(_imports(here, at_once=True)):
            if _within(name, TORCH):
                return [*ways[here], name]
            # With a module its packages are imported.
            parents = [name.rsplit(".", i)[0] for i in range(name.count(".") + 1)]
            for parent in parents:
                if parent in MODULES and parent not in ways:
                    ways[parent] = [*ways[here], parent]
                    waiting.append(parent)
    return None


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package: str) -> None:
    modules = [name for name in MODULES if _within(name, [package])]
    assert modules, f"there is no {package}"
    wrong = {
        f"{module} imports {name}"
        for module in modules
        for name in _imports(module)
        if _within(name, FORBIDDEN[package])
    }
    assert wrong == set()


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_what_needs_no_torch_does_not_import_it(package: str) -> None:
    modules = [name for name in MODULES if _within(name, [package])]
    assert modules, f"there is no {package}"
    assert [way for way in map(_torch_by, modules) if way] == []


def test_torch_is_found_where_it_is() -> None:
    way = _torch_by("src.localize.train")
    assert way is not None
    assert way[-1].startswith("torch")
    assert _torch_by("src.quality.suite") is not None, "it imports torch through other modules"
