"""What a module depends on: followed through a package that is written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.core.dependencies import PACKAGE, closure


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in which main depends on all but unused, config and errors."""
    files = {
        "__init__.py": "",
        "main.py": (
            "from typing import TYPE_CHECKING\n"
            "import numpy\n"
            "from . import beside as other\n"
            "from .core.base import Thing\n"
            "from .config import Config\n"
            "if TYPE_CHECKING:\n    from .unused import Name\n"
            "def late():\n    from .inner import deep\n"
        ),
        "beside.py": "from .core.errors import UserError\n",
        "unused.py": "",
        "config/__init__.py": "from ..unused import x\n",
        "core/__init__.py": "",
        "core/errors.py": "pass\n",
        "core/base.py": "from ..inner import VALUE\nfrom ..main import late\n",
        "inner/__init__.py": "VALUE = 1\n",
        "inner/deep.py": (
            "from pathlib import Path\n"
            "TABLE = Path(__file__).with_name('table.csv')\n"
            "NAME = 'other.csv'\n"
        ),
        "inner/table.csv": "a,b\n",
        "inner/other.csv": "a,b\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_imports_and_declared_files_are_followed(package: Path) -> None:
    found = [path.relative_to(package).as_posix() for path in closure(package / "main.py", package)]
    assert found == [
        "beside.py",
        "core/base.py",
        "inner/__init__.py",
        "inner/deep.py",
        "inner/table.csv",
        "main.py",
    ]


def test_a_module_that_is_missing_is_named(package: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere\.py"):
        closure(package / "nowhere.py", package)


def test_a_declared_file_that_is_missing_is_a_dependency(package: Path) -> None:
    (package / "inner" / "table.csv").unlink()
    found = closure(package / "main.py", package)
    assert package / "inner" / "table.csv" in found, "DVC then says that it is missing"


def test_the_reader_for_ocr_depends_on_the_corner_errors() -> None:
    assert PACKAGE / "datasets" / "corner_errors.csv" in closure(PACKAGE / "ocr" / "train.py")
