"""What several pages need: the store, files of results, and pictures with outlines."""

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
from ..flywheel.pictures import LONGEST_SIDE, Box
from ..flywheel.store import Store
from ..inference.drawing import draw_plates
from ..inference.reader import Plate
from .settings import Settings

OUT = Path("out")
"""Results of the pipeline, where the dashboard was started."""
_HOUR = 3600


class ResultsError(UserError):
    """A file of results cannot be understood."""


@st.cache_resource
def _opened(url: str, pictures: Path | None, days: int | None, max_bytes: float) -> Store:
    # Where the server deletes, this store deletes nothing: its days are then of no meaning.
    return Store(url, pictures, days or 1, max_bytes)


@st.cache_data(ttl=_HOUR)
def _purge(url: str, _store: Store) -> int:
    """Delete what is too old, now and then."""
    return _store.purge(datetime.now(UTC))


def open_store() -> Store | None:
    """The store of feedback; None where none is named, which the page then says.

    Raises:
        StoreError: it cannot be used.
    """
    settings = Settings()
    if settings.feedback is None:
        st.info(
            "No store of feedback is named. Start the dashboard with the server's: "
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
    """A file of metrics; None where there is none.

    Raises:
        ResultsError: it is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: cannot be read: {error}. Make it anew with `dvc repro`."
        ) from error


def read_table(path: Path) -> pd.DataFrame | None:
    """A file of a plot; None where there is none, or nothing in it.

    Raises:
        ResultsError: it is damaged.
    """
    try:
        table = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{path}: cannot be read: {error}. Make it anew with `dvc repro`."
        ) from error
    return table if len(table) else None


def spaced(text: str | None) -> str:
    """A plate's text as people write it: ZH 123456."""
    return f"{text[:2]} {text[2:]}" if text else "no text"


def outlined(pixels: Pixels, plates: Sequence[Plate]) -> Pixels:
    """``(H, W, 3)`` RGB with the plates drawn into it, shrunk to what a screen shows."""
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
    """The part of ``(H, W, 3)`` within x1, y1, x2, y2."""
    x1, y1, x2, y2 = box
    return pixels[y1:y2, x1:x2]
