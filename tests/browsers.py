"""A real browser for the tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SIZES = {"phone": (390, 844), "desktop": (1280, 800)}
"""Widths and heights of windows in pixels."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium, run by Playwright; a test is skipped without them."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        assert "CI" not in os.environ, "install chromium: .ci/run does"
        pytest.skip("there is no Chromium here")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking"]
        found = playwright.chromium.launch(executable_path=path, args=options)
        yield found
        found.close()


@contextmanager
def opened(browser: Any, url: str, size: str) -> Iterator[Any]:
    """A page in a window of a size, in whose scripts there is no error."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(url)
    yield page
    assert [fault for fault in faults if "status of 4" not in fault] == []
    context.close()
