"""MkDocs hooks that make images outside of docs/, such as results of the pipeline, part of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_IMAGE = re.compile(r"(\]\(|src=\")\.\./(out/[^)\"]+\.png)")


def on_files(files: Files, config: Any) -> Files:
    """Add the images that pages link, so that a missing image is an error in a strict build."""
    for page in [file for file in files if file.is_documentation_page()]:
        for _, path in _IMAGE.findall(page.content_string):
            if files.get_file_from_path(path) is None and (ROOT / path).is_file():
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Link the images as files of the site."""
    return _IMAGE.sub(r"\1\2", markdown)
