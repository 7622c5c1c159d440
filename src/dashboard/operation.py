"""Operation page: statistics of the feedback store over time, and of the server's ``/metrics``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from ..core.errors import UserError
from ..flywheel.review import error_rate
from ..flywheel.store import Store
from ..flywheel.tables import Feedback, Prediction, StoredImage
from ..inference.bundle import DEFAULT, read_manifest
from ..promotion.model_card import SETS
from .common import OUT, open_store, read_json, read_table
from .settings import Settings

PLOTS = OUT / "evaluations" / "stack" / "plots"
DAYS = {"7 days": 7, "30 days": 30, "90 days": 90, "1 year": 365}
LATEST = 500
"""Maximum number of texts compared with the evaluation."""
LEAST = 20
"""Minimum number of texts compared with the evaluation; fewer show nothing."""
_STEPS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Edges of the confidence bins in which texts are counted."""
_TIMEOUT_S = 3.0
_COLOURS = {"text": "#2ea043", "plate": "#f08c14", "nothing": "#9aa0a6"}
"""Colours by what was read in an image; the first two are those of src/inference/drawing.py."""


class ServerError(UserError):
    """The server does not provide its metrics."""


@dataclass(frozen=True)
class Shift:
    """Distance of confidences in operation from those of an evaluation.

    Attributes:
        distance: Kolmogorov-Smirnov distance: the largest difference between the distribution functions.
        by_chance: Distance that 95 % of samples of these sizes stay below if nothing has changed.
        shares: Row for each confidence bin, with the proportions in operation and in the evaluation.
    """

    distance: float
    by_chance: float
    shares: pd.DataFrame


@dataclass(frozen=True)
class Served:
    """Counts of a server since its start.

    Attributes:
        requests: Row for each route and status, with the number of requests and their average seconds.
        counts: Counts of each measure by label, such as images by outcome or refusals by reason.
        confidence: Row for each confidence bin, with the number of images.
    """

    requests: pd.DataFrame
    counts: dict[str, dict[str, float]]
    confidence: pd.DataFrame


def show() -> None:
    """Draw the page."""
    st.title("Operation")
    store = open_store()
    if store is not None:
        _show_store(store)
    _show_server(str(Settings().server))


# Feedback store


def readings(session: Session, since: datetime) -> pd.DataFrame:
    """Return a row for each stored image since a time, oldest first.

    Args:
        session: Session of ``Store.reading``.
        since: Earliest time, with a time zone.

    Returns:
        Table with the columns created and model, and confidence and given of the image's best plate.
        Without a plate, confidence is NaN and given is False.
    """
    best = and_(Prediction.picture_id == StoredImage.id, Prediction.plate == 0)
    statement = (
        select(StoredImage.created, StoredImage.model, Prediction.confidence, Prediction.is_given)
        .outerjoin(Prediction, best)
        .where(StoredImage.created >= since)
        .order_by(StoredImage.created)
    )
    rows = session.execute(statement).tuples()
    table = pd.DataFrame(rows, columns=["created", "model", "confidence", "given"])
    return table.astype({"confidence": float}).assign(given=table["given"].eq(True))


def daily(table: pd.DataFrame) -> pd.DataFrame:
    """Aggregate images by day (UTC); days without images have no row.

    Args:
        table: Table of ``readings``, with at least one row.

    Returns:
        Table by day: the number of images with a text, with a plate but no text, and with nothing; the
        median and the 10th percentile of the confidence; the proportion of images without a plate.
    """
    nothing = table["confidence"].isna()
    marked = table.assign(
        text=table["given"], plate=~table["given"] & ~nothing, nothing=nothing,
        day=_days(table),
    )  # fmt: skip
    by_day = marked.groupby("day")
    days = by_day[["text", "plate", "nothing"]].sum()
    days["median confidence"] = by_day["confidence"].median()
    days["a tenth is below"] = by_day["confidence"].quantile(0.1)
    days["without a plate"] = by_day["nothing"].mean()
    return days


def _days(table: pd.DataFrame) -> pd.Series:
    """Return the day (UTC) of each row of ``readings``."""
    return pd.to_datetime(table["created"], utc=True).dt.floor("D")


def shift(confidences: NDArray[np.float64], curve: pd.DataFrame, count: int, least: float) -> Shift:
    """Compare the confidences of given texts with those of an evaluation.

    Args:
        confidences: Confidences in operation, shape ``(n,)``; at least one reaches ``least``.
        curve: Curve of the evaluation with the columns ``confidence`` and ``coverage``, the proportion
            of its plates whose confidence is at least ``confidence``.
        count: Number of plates in the evaluation.
        least: Confidence from which a text is given.
    """
    curve = curve.sort_values("confidence")
    values, above = curve["confidence"].to_numpy(), curve["coverage"].to_numpy()
    given = float(np.interp(least, values, above))

    def below(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the proportion of the evaluation's given texts with lower confidence."""
        return 1 - np.interp(confidence, values, above, right=0.0) / given

    found = np.sort(confidences[confidences >= least])
    steps = np.arange(len(found) + 1) / len(found)
    expected = below(found)
    distance = max(np.abs(steps[1:] - expected).max(), np.abs(steps[:-1] - expected).max())
    # Critical value of two samples at 5 % (Smirnov, 1948).
    by_chance = 1.358 * np.sqrt(1 / len(found) + 1 / (given * count))
    edges = np.array([least, *(step for step in _STEPS if step > least)])
    evaluated = np.append(below(edges[:-1]), 1.0)
    shares = pd.DataFrame(
        {
            "confidence": [f"{low:g} to {high:g}" for low, high in pairwise(edges)],
            "in operation": np.histogram(found, edges)[0] / len(found),
            "in the evaluation": np.diff(evaluated),
        }
    )
    return Shift(float(distance), float(by_chance), shares)


def daily_shift(given: pd.DataFrame, curve: pd.DataFrame, count: int, least: float) -> pd.DataFrame:
    """Return ``distance`` and ``by chance`` of each day (UTC) with at least ``LEAST`` texts.

    Args:
        given: Rows of ``readings`` whose text was given.
        curve, count, least: Same as for ``shift``.
    """
    rows = {}
    for day, texts in given.groupby(_days(given)):
        if len(texts) >= LEAST:
            result = shift(texts["confidence"].to_numpy(), curve, count, least)
            rows[day] = (result.distance, result.by_chance)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["distance", "by chance"])


def _show_store(store: Store) -> None:
    chosen = st.segmented_control("Period", list(DAYS), default="30 days", required=True)
    since = datetime.now(UTC) - timedelta(days=DAYS[chosen])
    with store.reading() as session:
        table = readings(session, since)
        said = select(Feedback.verdict, func.count()).where(Feedback.created >= since)
        verdicts = dict(session.execute(said.group_by(Feedback.verdict)).tuples().all())
        errors = error_rate(session)
    columns = st.columns(4)
    columns[0].metric("Stored images", len(table), border=True)
    empty = f"{table['confidence'].isna().mean():.1%}" if len(table) else "–"
    columns[1].metric("Without a plate", empty, border=True)
    columns[2].metric("User feedback", sum(verdicts.values()), border=True)
    columns[2].caption(
        ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    )
    rate = f"{errors.wrong / errors.count:.1%}" if errors.count else "–"
    columns[3].metric(
        "Wrong texts", rate, border=True,
        help="Error rate of all reviewed plates that were sampled at random, regardless of the period. "
        "Only this rate is not biased by user feedback or by the order of the queue.",
    )  # fmt: skip
    if errors.count:
        columns[3].caption(
            f"{errors.wrong} of {errors.count}; 95 %: {errors.low:.1%} to {errors.high:.1%}"
        )
    if table.empty:
        st.info("No image was stored in this period.", icon=":material/hourglass_empty:")
        return
    days = daily(table)
    left, right = st.columns(2)
    with left:
        st.subheader("Images per day", anchor=False)
        st.bar_chart(
            days[list(_COLOURS)], color=list(_COLOURS.values()), x_label="day (UTC)",
            y_label="images",
        )  # fmt: skip
    with right:
        st.subheader("Confidence per day", anchor=False)
        st.line_chart(days[["median confidence", "a tenth is below"]], x_label="day (UTC)")
    left, right = st.columns(2)
    with left:
        st.subheader("Proportion without a plate", anchor=False)
        st.line_chart(days["without a plate"], x_label="day (UTC)")
    with right:
        _show_shift(table)


def _show_shift(table: pd.DataFrame) -> None:
    st.subheader("Confidence shift", anchor=False)
    model = table["model"].iloc[-1]
    threshold = read_manifest(Settings().model or DEFAULT).threshold
    of_model = table[table["given"] & (table["model"] == model)]
    found = of_model["confidence"].to_numpy()[-LATEST:]
    metrics = read_json(PLOTS.parent / "metrics.json") or {}
    curves = {name: read_table(PLOTS / f"risk_coverage_{name}.csv") for name in SETS}
    known = [name for name in SETS if curves[name] is not None]
    if not known:
        st.info(
            "There is no evaluation to compare with. Create it with `dvc repro evaluate_stack`."
        )
        return
    if len(found) < LEAST:
        st.info(f"The model in use has {len(found)} texts; a comparison needs at least {LEAST}.")
        return
    name = st.selectbox(
        "Compare with", known, index=min(1, len(known) - 1),
        format_func=lambda name: f"{name}: {SETS[name]}",
    )  # fmt: skip
    curve = curves[name]
    assert curve is not None  # noqa: S101  # for the type checker: the name is one of the known
    of_set = metrics if name == "val" else metrics.get(name, {})
    count = of_set.get("uncertainty", {}).get("count", len(curve))
    result = shift(found, curve, count, threshold)
    verdict = "more than" if result.distance > result.by_chance else "no more than"
    st.markdown(
        f"The confidences of the last {len(found)} texts differ from those of the evaluation by "
        f"**{result.distance:.2f}** (Kolmogorov-Smirnov distance). That is {verdict} chance explains "
        f"({result.by_chance:.2f} at 95 %)."
    )
    st.bar_chart(
        result.shares.set_index("confidence"), stack=False, sort=False, x_label="confidence",
        y_label="proportion of texts",
    )  # fmt: skip
    by_day = daily_shift(of_model, curve, count, threshold)
    if len(by_day):
        st.line_chart(by_day, x_label="day (UTC)", y_label="distance")


# Server metrics


def fetch(server: str) -> str:
    """Fetch the text of a server's ``/metrics``.

    Raises:
        ServerError: The server does not answer.
    """
    url = f"{server.rstrip('/')}/metrics"
    try:
        with urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # Settings accepts HTTP only
            return str(answer.read().decode())
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise ServerError(
            f"{url}: does not respond: {reason}. Start the server with `make serve`, or set "
            "another URL in `PLATES_SERVER`."
        ) from error


def served(text: str) -> Served:
    """Parse the text of a server's ``/metrics``.

    Raises:
        ServerError: The text does not come from a server of this project.
    """
    strange = ServerError(
        "the process at this address is not a plate reader server; set the server's URL in "
        "`PLATES_SERVER`"
    )
    try:
        samples = [
            (sample.name, dict(sample.labels), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except ValueError:
        raise strange from None
    times: dict[tuple[str, str], dict[str, float]] = {}
    counts: dict[str, dict[str, float]] = {}
    buckets: list[tuple[float, float]] = []
    for name, labels, value in samples:
        if name in ("plates_request_seconds_count", "plates_request_seconds_sum"):
            key = (labels["route"], labels["status"])
            times.setdefault(key, {})[name.rsplit("_", 1)[1]] = value
        elif name == "plates_confidence_bucket":
            buckets.append((float(labels["le"]), value))
        elif name in COUNTS:
            counts.setdefault(COUNTS[name], {})[next(iter(labels.values()), "now")] = value
    if not counts:
        raise strange
    requests = pd.DataFrame(
        [
            (route, status, int(each["count"]), each["sum"] / max(each["count"], 1))
            for (route, status), each in sorted(times.items())
        ],
        columns=["route", "status", "requests", "seconds on average"],
    )
    ends = sorted(buckets)
    confidence = pd.DataFrame(
        [
            (f"{low:g} to {high:g}", after - before)
            for (low, before), (high, after) in pairwise([(0.0, 0.0), *ends])
            if high <= 1
        ],
        columns=["confidence", "images"],
    )
    return Served(requests, counts, confidence)


COUNTS = {
    "plates_pictures_total": "images read",
    "plates_clips_total": "clips, by outcome",
    "plates_rejections_total": "refused",
    "plates_captures_total": "stored, by outcome",
    "plates_feedback_total": "feedback",
    "plates_queue_pictures": "waiting",
    "plates_without_plate_ratio": "proportion without a plate",
    "plates_bundle_loads_total": "bundles loaded",
}
"""Measures of src/serve/measures.py, and what each of them counts."""


def _show_server(server: str) -> None:
    st.header("Server since startup", anchor=False)
    try:
        found = served(fetch(server))
    except ServerError as error:
        st.info(str(error), icon=":material/cloud_off:")
        return
    left, right = st.columns(2)
    with left:
        st.dataframe(found.requests, hide_index=True, width="stretch")
        rows = [
            (what, label, value) for what, by in found.counts.items() for label, value in by.items()
        ]
        st.dataframe(
            pd.DataFrame(rows, columns=["what", "which", "value"]), hide_index=True, width="stretch"
        )
    with right:
        st.caption("Images by highest confidence")
        st.bar_chart(found.confidence.set_index("confidence"), sort=False, y_label="images")
