"""Page on which a user tries an image and gives feedback on the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from uuid import uuid4

import streamlit as st

from ..core.errors import UserError
from ..core.images import UPLOAD_FORMATS, UPLOAD_SUFFIXES, Pixels, load_colour, load_image
from ..flywheel.corrections import Correction
from ..flywheel.errors import StoreError
from ..flywheel.images import crop_box
from ..flywheel.store import Capture, Store
from ..inference.reader import Plate, PlateReader
from .common import cut_out, open_store, outlined, spaced
from .settings import Settings

_READING = Lock()
"""Lock that restricts reading to one image at a time: a large one takes hundreds of megabytes."""


@dataclass
class Tried:
    """Image that was read last.

    Attributes:
        file: Id of the upload.
        pixels: RGB image of shape ``(H, W, 3)``.
        plates: Plates read in the image.
        entry: Id in the store; None if the image is not stored.
        said: Verdicts of the user by plate number; the key None stands for the whole image.
    """

    file: str
    pixels: Pixels
    plates: list[Plate]
    entry: str | None = None
    said: dict[int | None, str] = field(default_factory=dict)


@st.cache_resource(show_spinner="Loading the models")
def _reader(model: Path | None) -> PlateReader:
    return PlateReader.load(model)


def version(reader: PlateReader) -> str:
    """Return the version of the bundle, in the same form as the server."""
    files = reader.manifest.files
    return "-".join(files[name].sha256[:8] for name in sorted(files))


def show() -> None:
    """Draw the page."""
    st.title("Try an image")
    settings = Settings()
    upload = st.file_uploader("Photo with number plates", type=list(UPLOAD_SUFFIXES))
    try:
        store = open_store()
    except StoreError as error:
        st.warning(f"Nothing is stored: {error}")
        store = None
    if store is not None:
        days = settings.feedback_days
        until = "until the server deletes it" if days is None else f"for {days} days"
        st.caption(
            f"The image and its predictions are stored {until}, so that the models can learn from them."
        )
    if upload is None:
        return
    tried: Tried | None = st.session_state.get("tried")
    if tried is None or tried.file != upload.file_id:
        tried = _try(upload.file_id, upload.getvalue(), settings, store)
        st.session_state["tried"] = tried
    _show(tried, store)


def _try(file: str, content: bytes, settings: Settings, store: Store | None) -> Tried:
    """Read an image, and store it if there is a store.

    Raises:
        ImageError: The image cannot be read.
    """
    reader = _reader(settings.model)
    with _READING:
        image = load_image(content, settings.max_pixels, settings.max_side, UPLOAD_FORMATS)
        plates = reader.read(image)
        tried = Tried(file, load_colour(content, settings.max_pixels), plates)
    if store is not None:
        capture = Capture(
            uuid4().hex, content, plates, image.width, image.height, version(reader),
            datetime.now(UTC),
        )  # fmt: skip
        try:
            tried.entry = capture.id if store.save([capture]) else None
        except StoreError as error:
            st.warning(f"The image is not stored: {error}")
    return tried


def _show(tried: Tried, store: Store | None) -> None:
    left, right = st.columns([3, 2], gap="medium")
    left.image(outlined(tried.pixels, tried.plates), width="stretch")
    with right:
        if not tried.plates:
            st.info("No plate was found.", icon=":material/search_off:")
        for number, plate in enumerate(tried.plates):
            with st.container(border=True):
                _show_plate(tried, plate)
                if store is not None and tried.entry is not None:
                    _ask_about_plate(tried, tried.entry, number, store)
        if store is not None and tried.entry is not None:
            _ask_about_image(tried, tried.entry, store)


def _show_plate(tried: Tried, plate: Plate) -> None:
    height, width = tried.pixels.shape[:2]
    st.image(cut_out(tried.pixels, crop_box(plate.corners, width, height)), width=240)
    st.subheader(spaced(plate.plate), anchor=False)
    if plate.plate is None:
        st.caption(
            f"No text is confident enough; the most likely one is {spaced(plate.text)} "
            f"({plate.confidence:.1%})."
        )
    else:
        st.caption(f"{plate.confidence:.1%} confidence")


def _ask_about_plate(tried: Tried, entry: str, number: int, store: Store) -> None:
    if number in tried.said:
        st.success(f"Stored as {tried.said[number]}. Thank you.")
        return
    if st.button("Right", key=f"right-{entry}-{number}", icon=":material/check:"):
        _say(tried, store, entry, number, "right")
    with st.form(f"wrong-{entry}-{number}", border=False):
        text = st.text_input(
            "Correct text, if the reading is wrong", placeholder="ZH 123456"
        ).strip()
        if st.form_submit_button("Wrong", icon=":material/close:"):
            _say(tried, store, entry, number, "wrong", text or None)


def _ask_about_image(tried: Tried, entry: str, store: Store) -> None:
    if None in tried.said:
        st.success("Stored. Thank you.")
    else:
        none, missed = st.columns(2)
        if none.button("No plate was missed", width="stretch"):
            _say(tried, store, entry, None, "right")
        if missed.button("A plate was missed", width="stretch"):
            _say(tried, store, entry, None, "missed")
    if st.button("Delete the image from the store", type="tertiary", icon=":material/delete:"):
        store.delete(entry)
        tried.entry = None
        st.toast("The image and all feedback on it are deleted.")
        st.rerun()


def _say(
    tried: Tried, store: Store, entry: str, plate: int | None, verdict: str, text: str | None = None
) -> None:
    """Store the user's feedback, or show the error if it is invalid."""
    try:
        store.add_feedback(entry, plate, verdict, Correction(text))
    except UserError as error:
        st.error(str(error))
        return
    tried.said[plate] = verdict
    st.rerun()
