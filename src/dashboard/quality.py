"""Data page: findings of the quality checks, clusters, and the worst samples with images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from .charts import reliability
from .common import OUT, ResultsError, read_json, read_table

FOLDER = OUT / "quality"
TASKS = {
    "localize": "localizer sets",
    "ocr": "recognizer sets",
    "stack": "evaluation sets",
    "feedback": "last export of reviewed plates",
    "any": "last set checked manually",
}
_WHITE = "<style>body { background: #fff; margin: 0 }</style>"
"""White background, because the report's text is dark in any theme of the dashboard."""
NOT_CHECKED, WITHIN, ABOVE = "not checked", "within", "above its limit"
_FIGURES = ("value", "limit", "flagged", "samples")


def show() -> None:
    """Draw the page."""
    st.title("Data quality")
    found = {task: read_json(FOLDER / task / "metrics.json") for task in TASKS}
    tasks = [task for task, metrics in found.items() if metrics]
    if not tasks:
        st.info(
            "No data has been checked yet. Run `dvc repro check_localize check_ocr check_stack` for the "
            "prepared sets, or `python -m src.quality FOLDER` for any other set.",
            icon=":material/rule:",
        )
        return
    task = st.segmented_control(
        "Data", tasks, default=tasks[0], required=True, format_func=TASKS.__getitem__,
        key="quality_task",
    )  # fmt: skip
    metrics = found[task]
    assert metrics is not None  # noqa: S101  # for the type checker: it is among the tasks
    folder = FOLDER / task
    checks = checks_of(metrics)
    columns = st.columns(3)
    columns[0].metric("Failed checks", metrics.get("failed", 0), border=True)
    columns[1].metric("Not checked (insufficient data)", metrics.get("not_checked", 0), border=True)
    columns[2].metric("Sets", checks["set"].nunique(), border=True)
    st.dataframe(checks, hide_index=True, width="stretch")
    st.caption("A proportion above its limit fails a check only if chance does not explain it.")
    _show_images(folder, checks)
    _show_worst(folder)
    _show_plots(folder)


def checks_of(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return a row for each check of each set, starting with those above their limits.

    Args:
        metrics: Metrics written by src/quality/report.py.

    Raises:
        ResultsError: The metrics have another format.
    """
    rows = []
    try:
        for name, checks in metrics.items():
            if not isinstance(checks, dict):
                continue
            for check, values in checks.items():
                row = {"set": name, "check": check, "state": NOT_CHECKED}
                if "not_checked" in values:
                    rows.append({**row, "why": values["not_checked"]})
                    continue
                limit, value = values["limit"], values["value"]
                is_above = limit is not None and value is not None and value > limit
                row["state"] = ABOVE if is_above else WITHIN
                rows.append({**row, **{key: values[key] for key in _FIGURES}})
    except (KeyError, TypeError) as error:
        raise ResultsError(
            f"{FOLDER}: a metrics.json is from another version. Recreate it with `dvc repro`."
        ) from error
    table = pd.DataFrame(rows, columns=["set", "check", "state", *_FIGURES, "why"])
    table["why"] = table["why"].fillna("")
    order = {ABOVE: 0, WITHIN: 1, NOT_CHECKED: 2}
    return table.sort_values("state", key=lambda states: states.map(order), kind="stable")


def sections_of(report: str) -> tuple[str, dict[str, str]]:
    """Split a report into its head, which includes the styles, and its sections by id.

    An id consists of the name of a set, a dash, and the name of a check.
    """
    head, *parts = re.split(r"(?=<h2\b)", report)
    # Expand the examples, since this page exists to show them.
    shown = [
        re.sub(r"<details\b[^>]*>(?=<summary>[Ee]xamples)", "<details open>", part)
        for part in parts
    ]
    return head, {part.split('"', 2)[1]: part for part in shown if part.startswith("<h2 id=")}


def _show_images(folder: Path, checks: pd.DataFrame) -> None:
    """Show the report's section on a check: its worst samples, or clusters with examples."""
    st.subheader("Images", anchor=False)
    path = folder / "report.html"
    try:
        report = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        st.info(f"The report with images is missing: {_remedy(folder)}.")
        return
    head, sections = sections_of(report)
    styles = "".join(re.findall(r"<style>.*?</style>", head, re.DOTALL))
    # Checks above their limits come first, then clusters, which give an overview of the data.
    ids = [f"{row.set}-{row.check}" for row in checks.itertuples() if row.state == ABOVE]
    ids += [name for name in sections if name.endswith("-clusters")] + list(sections)
    choice = [name for name in dict.fromkeys(ids) if name in sections]
    if not choice:
        st.info("There are no images to show.")
        return
    name = st.selectbox(
        "Set and check", choice, key=f"section-{folder.name}",
        format_func=lambda name: name.replace("-", ": ", 1),
    )  # fmt: skip
    # The page is this project's own, and its template escapes the content of samples.
    st.iframe(styles + _WHITE + sections[name], height=520, alt=f"Images of {name}")
    st.download_button(
        "Download the full report",
        report,
        f"{folder.name}.html",
        "text/html",
        icon=":material/download:",
    )


def _remedy(folder: Path) -> str:
    """Return how to get a report: those of stages are in Git, others are made by hand."""
    stage = f"check_{folder.name}"
    if folder.name in ("localize", "ocr", "stack"):
        return f"`git checkout {folder}` restores the committed one, `dvc repro {stage}` makes a new one"
    return "check the set again"


def _show_worst(folder: Path) -> None:
    st.subheader("Worst samples", anchor=False)
    worst = read_table(folder / "flagged.csv")
    if worst is None:
        st.info(f"No sample is flagged, or the list is missing: {_remedy(folder)}.")
        return
    st.dataframe(
        worst.sort_values("score", ascending=False, kind="stable"), hide_index=True,
        width="stretch", height=300,
    )  # fmt: skip


def _show_plots(folder: Path) -> None:
    clusters = read_table(folder / "plots" / "clusters.csv")
    if clusters is not None:
        st.subheader("Clusters", anchor=False)
        clusters["what"] = clusters["lacking"].map({True: "underrepresented", False: "as expected"})
        for name, of_set in clusters.groupby("set"):
            chart = alt.Chart(of_set, title=str(name)).mark_bar()
            st.altair_chart(
                chart.encode(
                    alt.X("cluster:O"),
                    alt.Y("count:Q", title="images"),
                    alt.Color("what:N", title=None),
                    tooltip=["cluster", "count", "expected"],
                ).properties(height=180)
            )
    table = read_table(folder / "plots" / "reliability.csv")
    if table is not None:
        st.subheader("Reliability of the models' confidence", anchor=False)
        st.altair_chart(reliability(table, "set"))
