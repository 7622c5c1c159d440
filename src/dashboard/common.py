"""Helpers shared by several pages: the store, result files, and images with outlines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import streamlit as st

from ..core.errors import UserError
from ..core.images import Pixels
from ..flywheel.images import LONGEST_SIDE, Box
from ..flywheel.store import Store
from ..inference.drawing import draw_plates
from ..inference.reader import Plate
from .settings import Settings

OUT = Path("out")
"""Results of the pipeline, relative to the folder where the dashboard was started."""
_HOUR = 3600


class ResultsError(UserError):
    """A result file cannot be interpreted."""


@st.cache_resource
def _opened(url: str, images: Path | None, days: int | None, max_bytes: float) -> Store:
    # If the server deletes images, this store deletes nothing, and its number of days is unused.
    return Store(url, images, days or 1, max_bytes)


@st.cache_data(ttl=_HOUR)
def _purge(url: str, _store: Store) -> int:
    """Delete expired images at most once an hour; return how many."""
    return _store.purge(datetime.now(UTC))


def open_store() -> Store | None:
    """Return the feedback store, or None if none is configured, and then tell the user so.

    Raises:
        StoreError: The store cannot be used.
    """
    settings = Settings()
    if settings.feedback is None:
        st.info(
            "No feedback store is configured. Start the dashboard with that of the server: "
            '`make dashboard ARGS="--feedback sqlite:///feedback.db"`, or set `PLATES_FEEDBACK`.',
            icon=":material/database_off:",
        )
        return None
    url = settings.feedback.get_secret_value()
    store = _opened(
        url, settings.feedback_pictures, settings.feedback_days, settings.max_feedback_mib * 2**20
    )
    if settings.feedback_days is not None:
        _purge(url, store)
    return store


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a metrics file; return None if it does not exist.

    Raises:
        ResultsError: The file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: cannot be read: {error}. Recreate it with `dvc repro`."
        ) from error


def read_table(path: Path) -> pd.DataFrame | None:
    """Read a plot's CSV file; return None if it does not exist or is empty.

    Raises:
        ResultsError: The file is damaged.
    """
    try:
        table = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: cannot be read: {error}. Recreate it with `dvc repro`."
        ) from error
    return table if len(table) else None


def spaced(text: str | None) -> str:
    """Return a plate's text as people write it: ``ZH 123456``."""
    return f"{text[:2]} {text[2:]}" if text else "no text"


def outlined(pixels: Pixels, plates: Sequence[Plate]) -> Pixels:
    """Draw plates into an ``(H, W, 3)`` RGB image, shrunk to fit a screen."""
    scale = min(1.0, LONGEST_SIDE / max(pixels.shape[:2]))
    if scale < 1:
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    small = [
        replace(plate, corners=tuple((x * scale, y * scale) for x, y in plate.corners))
        for plate in plates
    ]
    return draw_plates(pixels, small)


def cut_out(pixels: Pixels, box: Box) -> Pixels:
    """Return the part of an ``(H, W, 3)`` image within the box x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    return pixels[y1:y2, x1:x2]
