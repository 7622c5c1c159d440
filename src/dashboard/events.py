"""Events page: vehicles that cameras have seen, searched, counted over time, and deleted on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import cv2
import numpy as np
import pandas as pd
import streamlit as st

from ..core.errors import UserError
from ..core.images import Pixels
from ..flywheel.events import EventFilter, EventStore, day_of
from ..flywheel.tables import StoredEvent
from ..inference.colour import COLOURS
from ..inference.drawing import draw_plates
from .common import cut_out, spaced
from .settings import Settings

PAGE = 100
"""Number of events on a page of the list."""
DAYS = 30
"""Number of days that are counted unless one day is chosen."""
_HOUR = 3600
_ALL = "all"
_MARGIN = 0.25
"""Margin around a plate that is shown large, in widths of the plate."""


@dataclass(frozen=True)
class _Outlined:
    """The plate of an event as it is drawn."""

    plate: str | None
    confidence: float
    corners: tuple[tuple[float, float], ...]


def show() -> None:
    """Draw the page."""
    st.title("Events")
    store = _open_store()
    if store is None:
        return
    if message := st.session_state.pop("event_message", None):
        st.toast(message)
    zone, name = _time_zone()
    st.caption(
        f"Vehicles that cameras have seen (`swiss-plates watch --to`). Times are those of {name}."
    )
    wanted, day = _filter(store, zone)
    counts = _counts(store, wanted, day, zone)
    st.bar_chart(
        counts, x="time", y="events", x_label="hour" if day else "day", y_label="events", height=220
    )
    total = int(counts["events"].sum())
    when = f"on {day}" if day else f"in the last {DAYS} days"
    st.caption(f"{total} {'event' if total == 1 else 'events'} {when}")
    row = _chosen(store, wanted, zone)
    if row is not None:
        _show_event(store, row, zone)


@st.cache_resource
def _opened(url: str) -> EventStore:
    return EventStore(url, "--events")


@st.cache_data(ttl=_HOUR)
def _purge(url: str, _store: EventStore) -> int:
    """Delete the events whose time is over at most once an hour; return how many."""
    return _store.purge(datetime.now(UTC))


def _open_store() -> EventStore | None:
    """Return the table of events, or None if no database is configured, and then tell the user so.

    Raises:
        StoreError: The database cannot be used.
    """
    settings = Settings()
    secret = settings.events or settings.feedback
    if secret is None:
        st.info(
            "No database of events is configured. Events are stored only where that is asked for: "
            "`swiss-plates watch gate=rtsp://… --to sqlite:///events.db --keep-days 3`. Start the dashboard "
            'with the same database: `make dashboard ARGS="--events sqlite:///events.db"`, or set '
            "`PLATES_EVENTS`.",
            icon=":material/database_off:",
        )
        return None
    url = secret.get_secret_value()
    store = _opened(url)
    # Each event says itself how long it is kept, so whoever opens the database may delete it then.
    _purge(url, store)
    return store


def _time_zone() -> tuple[tzinfo, str]:
    """Return the browser's time zone and its name; UTC where it is not known."""
    name = st.context.timezone
    try:
        return (ZoneInfo(name), name) if name else (UTC, "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC, "UTC"


def _filter(store: EventStore, zone: tzinfo) -> tuple[EventFilter, date | None]:
    """Draw the fields of the search; return which events are wanted, and the day if one is chosen."""
    columns = st.columns([2, 1, 1, 1])
    text = columns[0].text_input("Part of the text", placeholder="ZH 12", max_chars=32)
    day = columns[1].date_input("Day", value=None)
    source = columns[2].selectbox("Source", [_ALL, *store.sources()])
    colour = columns[3].selectbox("Colour", [_ALL, *COLOURS])
    since, until = day_of(day, zone) if day else (None, None)
    wanted = EventFilter(
        text=text,
        since=since,
        until=until,
        source=None if source == _ALL else source,
        colour=None if colour == _ALL else colour,
    )
    return wanted, day


def edges_of(day: date | None, today: date, zone: tzinfo) -> list[datetime]:
    """Return the times between which events are counted: the hours of a day, or the last days.

    Args:
        day: The day; None for the last ``DAYS`` days.
        today: Today's date.
        zone: Time zone of the dates.
    """
    if day is None:
        days = [today - timedelta(days=number) for number in reversed(range(DAYS))]
        return [*(day_of(each, zone)[0] for each in days), day_of(today, zone)[1]]
    begin, end = (each.astimezone(UTC) for each in day_of(day, zone))
    # In UTC, as a day on which the clocks change has 23 or 25 hours.
    hours = round((end - begin) / timedelta(hours=1))
    return [begin + timedelta(hours=number) for number in range(hours + 1)]


def _counts(store: EventStore, wanted: EventFilter, day: date | None, zone: tzinfo) -> pd.DataFrame:
    """Return a row for each period, with its begin in local time and the number of events."""
    edges = edges_of(day, datetime.now(zone).date(), zone)
    begins = [edge.astimezone(zone).replace(tzinfo=None) for edge in edges[:-1]]
    return pd.DataFrame({"time": begins, "events": store.count(wanted, edges)})


def _chosen(store: EventStore, wanted: EventFilter, zone: tzinfo) -> StoredEvent | None:
    """Draw the list; return the event that is chosen in it, or the latest one."""
    number = st.session_state.get("event_page", 1)
    # One more tells whether there is another page.
    rows = store.search(wanted, PAGE + 1, (number - 1) * PAGE)
    if not rows and number > 1:
        st.session_state["event_page"] = 1
        st.rerun()
    if not rows:
        st.info("No event was found.", icon=":material/search_off:")
        return None
    table = st.dataframe(
        listed(rows[:PAGE], zone), hide_index=True, width="stretch", height=320,
        on_select="rerun", selection_mode="single-row",
        column_config={"confidence": st.column_config.NumberColumn(format="percent")},
    )  # fmt: skip
    if number > 1 or len(rows) > PAGE:
        st.number_input("Page", 1, number + (len(rows) > PAGE), key="event_page")
    chosen = table.selection.rows
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else rows[0]


def listed(rows: Sequence[StoredEvent], zone: tzinfo) -> pd.DataFrame:
    """Return a table of events for people."""
    return pd.DataFrame(
        [
            {
                "seen": _local(row.seen, zone),
                "plate": spaced(row.plate),
                "source": row.source,
                "colour": row.colour or "",
                "format": (row.event.get("format") or "").replace("_", " "),
                "direction": row.event.get("direction") or "",
                "confidence": row.event.get("confidence"),
                "watch list": (row.event.get("match") or {}).get("label", ""),
            }
            for row in rows
        ]
    )


def _local(time: datetime, zone: tzinfo) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def _show_event(store: EventStore, row: StoredEvent, zone: tzinfo) -> None:
    event = row.event
    left, right = st.columns([3, 2], gap="medium")
    pixels = _decoded(store.image(row.id))
    corners = tuple((float(x), float(y)) for x, y in event["best"].get("corners", ()))
    with left:
        if pixels is None:
            st.caption("There is no image: it is stored with `--with-images` only.")
        elif corners:
            plate = _Outlined(row.plate, event.get("confidence") or 0.0, corners)
            st.image(draw_plates(pixels, [plate]), width="stretch")
        else:
            st.image(pixels, width="stretch")
    with right:
        st.header(spaced(row.plate), anchor=False)
        if pixels is not None and corners:
            st.image(cut_out(pixels, _around(corners, pixels)), width=280)
        st.markdown(_described(row, zone))
        with st.popover("Delete", icon=":material/delete:"):
            st.write("The event and its image are deleted for good. Copies elsewhere are not.")
            st.button("Delete for good", type="primary", on_click=_delete, args=(store, row.id))
        with st.expander("All fields"):
            st.json(event)


def _decoded(image: bytes | None) -> Pixels | None:
    """Return a stored JPEG as ``(H, W, 3)`` RGB; None if there is none, or it is damaged."""
    if image is None:
        return None
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        st.warning("The stored image is damaged.")
        return None
    return np.asarray(pixels, np.uint8)


def _around(corners: Sequence[tuple[float, float]], pixels: Pixels) -> tuple[int, int, int, int]:
    """Return the box around a plate with a margin, within the image."""
    points = np.array(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high[0] - low[0])
    size = np.array(pixels.shape[1::-1])
    x1, y1 = np.clip(low - margin, 0, size - 1).astype(int).tolist()
    x2, y2 = np.clip(high + margin, 1, size).astype(int).tolist()
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _described(row: StoredEvent, zone: tzinfo) -> str:
    """Return what is known of an event as lines of Markdown."""
    event = row.event
    match = event.get("match") or {}
    parts = {
        "Seen": _local(row.seen, zone),
        "Source": f"`{row.source.replace('`', '')}`",
        "Confidence": f"{event['confidence']:.1%}" if event.get("confidence") is not None else "",
        "Colour": row.colour or "",
        "Format": (event.get("format") or "").replace("_", " "),
        "Direction": event.get("direction") or "",
        "Frames": f"{event['frames']}, read in {event['reads']}" if "frames" in event else "",
        "Watch list": f"`{match['label'].replace('`', '')}`" if match else "",
        "Kept until": _local(row.kept_until, zone),
    }
    return "\n".join(f"- {name}: {value}" for name, value in parts.items() if value)


def _delete(store: EventStore, event: str) -> None:
    """Delete an event; where it is gone already, say so."""
    try:
        store.delete(event)
        st.session_state["event_message"] = "The event and its image are deleted."
    except UserError as error:
        st.session_state["event_message"] = str(error)
