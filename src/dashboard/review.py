"""Review page, on which a person annotates plates one after the other by keyboard.

A decision is stored before the next plate is shown, so that a reload or another browser continues where
the last one stopped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import altair as alt
import cv2
import numpy as np
import pandas as pd
import streamlit as st
from sqlalchemy import select
from sqlalchemy.orm import Session
from streamlit.delta_generator import DeltaGenerator

from ..core.errors import UserError
from ..core.images import ImageError, Pixels, load_colour
from ..flywheel.corrections import Corners, Correction
from ..flywheel.errors import CorrectionError, UnknownEntryError
from ..flywheel.images import encode
from ..flywheel.review import Item, decide, latest, queue
from ..flywheel.store import Store
from ..flywheel.tables import Review
from ..inference.drawing import READ
from .common import open_store, spaced

LIMIT = 100
"""Number of plates taken from the queue at once."""
RANKED_S = 60.0
"""Seconds after which the queue is ranked again; for ten thousand images, that takes a second."""
REASONS = {
    "wrong": "a user reports it as wrong",
    "missed": "a user reports a missed plate",
    "contradiction": "users disagree on this image",
    "doubt": "the recognizer is uncertain",
    "novelty": "few plates of this kind were reviewed",
    "random": "random sample, used to estimate the error rate",
}
_UNDONE = 100
"""Maximum number of decisions that can be undone."""
_TEXT = "Correct text"
_REVIEWER = "reviewer"
_CORNERS = ["top left", "top right", "bottom right", "bottom left"]
"""Names of the corners as seen on the plate itself, however it is rotated."""
_BOXED = 380
"""Width in pixels of the image in which a box is drawn: that of a phone's screen."""
_NOTHING = Correction()
_NO_KEY = ("", None)

Key = tuple[str, int | None]


@dataclass(frozen=True)
class Shown:
    """Plate under review, detached from the database.

    Attributes:
        key: Id of the image and number of the prediction in it; the number is None for a missed plate.
        text: Recognized text; None for a missed plate.
        corners: Detected corners in pixels of the displayed image, shape ``(4, 2)``; None for a missed
            plate.
        lines: Number of text lines; None for a missed plate.
        confidence: Confidence of the text.
        said: Correction by the user; empty if there is none.
        reasons: Reasons for the review, in words.
        file: Name of the stored image.
        crop: Name of the stored crop of the plate; None for a missed plate.
        size: Width and height of the displayed image.
    """

    key: Key
    text: str | None
    corners: Corners | None
    lines: int | None
    confidence: float
    said: Correction
    reasons: Sequence[str]
    file: str
    crop: str | None
    size: tuple[int, int]

    @classmethod
    def of(cls, item: Item) -> Shown:
        """Copy an item of the queue, which is bound to its database session."""
        image, read, feedback = item.image, item.prediction, item.feedback
        said = Correction()
        if feedback is not None:
            said = Correction(feedback.text, _corners(feedback.corners), feedback.lines)
        return cls(
            key=(image.id, item.plate),
            text=None if read is None else read.text,
            corners=None if read is None else _corners(read.corners),
            lines=None if read is None else read.lines,
            confidence=0.0 if read is None else read.confidence,
            said=said,
            reasons=[REASONS[name] for name in item.reasons],
            file=image.file,
            crop=None if read is None else read.crop,
            size=(image.width, image.height),
        )


def show() -> None:
    """Draw the page."""
    st.title("Review")
    store = open_store()
    if store is None:
        return
    st.sidebar.text_input(
        "Reviewer", "reviewer", key=_REVIEWER, max_chars=100, bind="query-params",
        help="The name is stored with each decision.",
    )  # fmt: skip
    waiting = _waiting(store)
    shown = waiting.get(_chosen(waiting))
    # Reserved without a message too: else the form below would be drawn anew, and lose its cursor.
    place = st.container()
    if message := st.session_state.pop("review_error", None):
        place.error(message)
    if shown is None:
        st.success("No plates are waiting for review.", icon=":material/done_all:")
        _undo_button(store)
        return
    st.caption(f"{len(waiting)} to review, sorted by priority")
    _show(shown, store)


def _waiting(store: Store) -> dict[Key, Shown]:
    """Return the waiting plates, sorted by descending value of a review."""
    known: dict[Key, Shown] = st.session_state.get("waiting", {})
    if not known or monotonic() - st.session_state["ranked"] > RANKED_S:
        with store.reading() as session:
            shown = [Shown.of(item) for item in queue(session, LIMIT)]
        known = {each.key: each for each in shown}
        st.session_state["waiting"], st.session_state["ranked"] = known, monotonic()
    return known


def _chosen(waiting: dict[Key, Shown]) -> Key:
    """Return the plate shown before if it still waits, else the first that was not postponed."""
    now: Key = st.session_state.get("reviewed", _NO_KEY)
    if now not in waiting:
        put_off: set[Key] = st.session_state.setdefault("put_off", set())
        if put_off >= waiting.keys():
            put_off.clear()
        now = next((key for key in waiting if key not in put_off), _NO_KEY)
    st.session_state["reviewed"] = now
    return now


def _show(shown: Shown, store: Store) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        pixels = _load(store, shown.file)
        known = shown.said.corners or shown.corners
        if known is None and pixels is not None:
            known = _boxed(shown, pixels)
        image = st.container()
        with st.expander("Corners"):
            corners = _corner_editor(shown, known)
        if pixels is not None and corners is not None:
            image.image(_outlined(pixels, shown, corners), width="stretch")
    with right:
        words = st.container()
        if shown.crop is not None and (crop := _load(store, shown.crop)) is not None:
            left, words = st.columns([2, 3])
            left.image(crop, width="stretch")
        words.header(spaced(shown.text) if shown.text else "A missed plate", anchor=False)
        sure = f"{shown.confidence:.1%} confidence; " if shown.text else ""
        words.caption(sure + "; ".join(shown.reasons))
        if shown.said:
            st.info(f"User feedback: {_in_words(shown.said)}", icon=":material/person:")
        _buttons(shown, store)
        _correction_form(shown, store, corners)


def _buttons(shown: Shown, store: Store) -> None:
    """Draw the buttons with single-key shortcuts; C and R are reserved by Streamlit."""
    is_missed = shown.key[1] is None
    said = shown.said
    is_said = said.text and said.corners if is_missed else said
    row = st.container(horizontal=True)
    row.button(
        "Accept", icon=":material/check:", shortcut="A",
        help="The plate was read correctly.", disabled=is_missed,
        on_click=_decide, args=(store, shown.key, "accepted"),
    )  # fmt: skip
    row.button(
        "Use feedback", icon=":material/person:", shortcut="S",
        help="The user's correction is right.", disabled=not is_said,
        on_click=_decide, args=(store, shown.key, "corrected", said),
    )  # fmt: skip
    row.button(
        "Reject", icon=":material/close:", shortcut="X",
        help="It is not a Swiss plate, or not usable.",
        on_click=_decide, args=(store, shown.key, "rejected"),
    )  # fmt: skip
    row.button(
        "Later", icon=":material/skip_next:", shortcut="L", help="Postpone this plate.",
        on_click=_put_off, args=(shown.key,),
    )  # fmt: skip
    _undo_button(store, row)
    # Reserved as well: a form that moves may stay where it was too, as a second field of the same name.
    place = st.container()
    if row.button(
        "Edit", icon=":material/edit:", shortcut="E",
        help="Go to the text field below; Enter submits it.",
    ):  # fmt: skip
        st.session_state["focused"] = st.session_state.get("focused", 0) + 1
        with place:
            _focus(key=f"focus-{st.session_state['focused']}", data=_TEXT)


_focus = st.components.v2.component(
    "focus",
    js="""
    export default function ({ data }) {
        const field = document.querySelector(`input[aria-label="${data}"]`);
        field?.focus();
        field?.select();
    }
    """,
)
"""Component that focuses the field with a given label, which Streamlit itself cannot do."""


def _undo_button(store: Store, place: DeltaGenerator | None = None) -> None:
    (place or st).button(
        "Undo", icon=":material/undo:", shortcut="Z",
        help="Undo your last decision.", on_click=_undo, args=(store,),
    )  # fmt: skip


def _boxed(shown: Shown, pixels: Pixels) -> Corners | None:
    """Return the corners of the box drawn around a missed plate, or None if there is none yet."""
    width, height = shown.size
    high = round(_BOXED * height / width)
    url = f"data:image/jpeg;base64,{b64encode(encode(pixels)).decode()}"
    middle = pd.DataFrame({"x": [width / 2], "y": [height / 2], "url": [url]})
    chart = (
        alt.Chart(middle)
        .mark_image(width=_BOXED, height=high)
        .encode(
            alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False)),
            alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False)),
            alt.Url("url:N"),
        )
        .add_params(alt.selection_interval(name="box"))
        .properties(width=_BOXED, height=high)
    )
    st.caption("Draw a box around the plate, then adjust the corners below.")
    event = st.altair_chart(chart, on_select="rerun", width="content", key=f"box-{shown.key}")
    box = event.selection.get("box", {})
    if not {"x", "y"} <= box.keys():
        return None
    (x1, x2), (y1, y2) = sorted(box["x"]), sorted(box["y"])
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def _corner_editor(shown: Shown, known: Corners | None) -> Corners | None:
    """Return the edited corners, or None while those of a missed plate are not placed."""
    width, height = shown.size
    # Start in the middle of the image if no box is drawn.
    places = ((0.4, 0.47), (0.6, 0.47), (0.6, 0.53), (0.4, 0.53))
    start = known or [(x * width, y * height) for x, y in places]
    table = pd.DataFrame(np.round(start, 1), _CORNERS, ["x", "y"])
    edited = st.data_editor(
        table, key=f"corners-{shown.key}-{known}", disabled=["_index"], width="stretch",
        column_config={name: st.column_config.NumberColumn(format="%.1f") for name in "xy"},
    )  # fmt: skip
    st.caption(f"In pixels of the image, which is {width} x {height}.")
    if edited.equals(table):
        return known
    # An emptied cell becomes NaN, which the check of the corners reports.
    return tuple((float(x), float(y)) for x, y in edited.to_numpy(float))


def _correction_form(shown: Shown, store: Store, corners: Corners | None) -> None:
    with st.form(f"correct-{shown.key}"):
        text = st.text_input(_TEXT, shown.said.text or shown.text or "", key=f"text-{shown.key}")
        known = shown.said.lines or shown.lines or 1
        lines = st.radio("Lines", [1, 2], index=known - 1, horizontal=True)
        if st.form_submit_button("Correct", icon=":material/edit:"):
            # Values equal to the recognized ones are not corrections.
            correction = Correction(
                text.strip() or None if text != shown.text else None,
                corners if corners != shown.corners else None,
                lines if lines != (shown.lines or 1) else None,
            )
            state = "corrected" if correction or shown.key[1] is None else "accepted"
            _decide(store, shown.key, state, correction)
            st.rerun()


def _outlined(pixels: Pixels, shown: Shown, corners: Corners) -> Pixels:
    """Draw a plate's outline and a dot at its own top left into an ``(H, W, 3)`` RGB image."""
    if not np.isfinite(corners).all():
        return pixels
    points = np.array(corners) * (pixels.shape[1] / shown.size[0])
    # OpenCV puts pixel centres at integers; the coordinates are in sixteenths of a pixel.
    fixed = np.round((points - 0.5) * 16).clip(-(2**20), 2**20).astype(np.int32)
    thickness = max(1, round(max(pixels.shape) / 500))
    pixels = pixels.copy()
    cv2.polylines(pixels, [fixed], True, READ, thickness, cv2.LINE_AA, 4)
    cv2.circle(pixels, tuple(fixed[0].tolist()), 48 * thickness, READ, -1, cv2.LINE_AA, 4)
    return pixels


def _load(store: Store, name: str) -> Pixels | None:
    """Load a stored file as ``(H, W, 3)`` RGB; warn and return None if it cannot be loaded."""
    try:
        return load_colour(store.images.path(name))
    except ImageError as error:
        st.warning(str(error))
        return None


def _decide(store: Store, key: Key, state: str, correction: Correction = _NOTHING) -> None:
    """Store a decision; if it is invalid, keep the plate and show the error above it."""
    try:
        if not (reviewer := _reviewer()):
            raise CorrectionError("enter the name of the reviewer in the sidebar")
        decide(store, *key, state, reviewer, correction)
        st.session_state["waiting"].pop(key, None)
    except UserError as error:
        st.session_state["review_error"] = str(error)
        if isinstance(error, UnknownEntryError):
            st.session_state["waiting"] = {}


def _put_off(key: Key) -> None:
    st.session_state["put_off"].add(key)
    st.session_state["reviewed"] = _NO_KEY


def _reviewer() -> str:
    # Read the current value: a button's argument, bound when it was drawn, may be outdated.
    return str(st.session_state[_REVIEWER]).strip()


def _undo(store: Store) -> None:
    """Undo the reviewer's last decision, so that its plate waits again."""
    with store.reading() as session:
        key = last_decided(session, _reviewer())
    if key is None:
        st.toast("You have no decision to undo.")
        return
    _decide(store, key, "pending")
    st.session_state["waiting"] = {}
    st.session_state["reviewed"] = key


def last_decided(session: Session, reviewer: str) -> Key | None:
    """Return the plate a reviewer decided last, of those that nobody has decided since."""
    statement = (
        select(Review)
        .where(Review.reviewer == reviewer)
        .order_by(Review.number.desc())
        .limit(_UNDONE)
    )
    for review in session.scalars(statement):
        of_image = select(Review).where(Review.picture_id == review.picture_id)
        rows = session.scalars(of_image.order_by(Review.number)).all()
        if latest(rows, review.plate) is review:
            return review.picture_id, review.plate
    return None


def _corners(rows: Sequence[Sequence[float]] | None) -> Corners | None:
    return None if rows is None else tuple((float(x), float(y)) for x, y in rows)


def _in_words(said: Correction) -> str:
    parts = [
        spaced(said.text) if said.text else "",
        "corners" if said.corners else "",
        f"{said.lines} lines" if said.lines else "",
    ]
    return ", ".join(part for part in parts if part)
