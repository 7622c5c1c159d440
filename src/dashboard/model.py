"""Model page: the promoted bundle compared with the candidate, by slice, and reliability."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from ..core.intervals import wilson
from ..inference.bundle import DEFAULT, BundleError, Manifest, read_manifest
from ..promotion.model_card import CARD, SETS
from .charts import reliability, shares
from .common import OUT, read_json, read_table
from .settings import Settings

EVALUATION = OUT / "evaluations" / "stack"
CANDIDATE = OUT / "models" / "stack"
FIGURES = {
    "at_threshold.wrong.share": "error rate of returned texts on val",
    "shifted.at_threshold.wrong.share": "error rate of returned texts on shifted",
    "clutter.with_text.share": "proportion of images without a Swiss plate that get a text",
    "uncertainty.ece": "expected calibration error on val",
    "shifted.uncertainty.ece": "expected calibration error on shifted",
    "shifted.uncertainty.brier": "Brier score on shifted",
    "latency.median_ms": "median latency per scene in milliseconds",
}
"""Metrics shown besides the accuracy of the sets; lower is better."""
PROMOTED, WORKSPACE = "promoted", "candidate"

Metrics = Mapping[str, Any]


def show() -> None:
    """Draw the page."""
    st.title("Model")
    folder = Settings().model or DEFAULT
    manifest = read_manifest(folder)
    promoted = manifest.metrics.get("evaluate_stack", {})
    candidate = read_json(EVALUATION / "metrics.json")
    left, right = st.columns(2)
    with left.container(border=True):
        st.subheader("Promoted", anchor=False)
        _describe(manifest)
    with right.container(border=True):
        st.subheader("Candidate", anchor=False)
        _describe_candidate(manifest, candidate is not None)
    st.dataframe(
        accuracies(promoted, candidate or {}), hide_index=True, width="stretch",
        column_config={name: st.column_config.NumberColumn(format="%.4f") for name in _SHARES},
    )  # fmt: skip
    st.caption(
        "Proportion of plates whose whole text is correct. `make promote` decides on the same "
        "plates whether the candidate is better."
    )
    st.dataframe(
        figures(promoted, candidate or {}), hide_index=True, width="stretch",
        column_config={
            name: st.column_config.NumberColumn(format="%.5f") for name in (PROMOTED, WORKSPACE)
        },
    )  # fmt: skip
    _show_slices(folder, candidate or {})
    _show_reliability()
    _show_promotion(manifest)


def accuracies(promoted: Metrics, candidate: Metrics) -> pd.DataFrame:
    """Return a row for each set with the accuracy of both models and their 95 % intervals.

    Args:
        promoted: Metrics of evaluate_stack for the promoted bundle, from its manifest.
        candidate: Metrics of evaluate_stack for the candidate, from the workspace.
    """
    rows = []
    for name, what in SETS.items():
        row: dict[str, Any] = {"set": name}
        for model, metrics in ((PROMOTED, promoted), (WORKSPACE, candidate)):
            key = "val_acc" if name == "val" else f"{name}.accuracy"
            row["plates"] = row.get("plates") or _value(
                metrics, "count_with_text" if name == "val" else f"{name}.count_with_text"
            )
            row[model] = _value(metrics, key)
            low, high = (_value(metrics, f"{key}_95.{end}") for end in ("low", "high"))
            row[f"{model}, 95 %"] = "" if low is None else f"{low:.4f} to {high:.4f}"
        known = row[PROMOTED] is not None and row[WORKSPACE] is not None
        row["difference"] = row[WORKSPACE] - row[PROMOTED] if known else None
        row["what"] = what
        rows.append(row)
    return pd.DataFrame(rows)


_SHARES = (PROMOTED, WORKSPACE, "difference")


def figures(promoted: Metrics, candidate: Metrics) -> pd.DataFrame:
    """Return a row for each of ``FIGURES`` that at least one of the models has."""
    table = pd.DataFrame(
        {
            "lower is better": list(FIGURES.values()),
            PROMOTED: [_value(promoted, name) for name in FIGURES],
            WORKSPACE: [_value(candidate, name) for name in FIGURES],
        }
    )
    return table.dropna(how="all", subset=[PROMOTED, WORKSPACE])


def slices_of_card(text: str) -> pd.DataFrame:
    """Parse the slices from a model card, since the manifest has none.

    Args:
        text: Text of a model card written by src/promotion/model_card.py.

    Returns:
        A row for each slice, with the columns set, by (such as "height"), slice, plates and accuracy.
    """
    sets = {what.capitalize(): name for name, what in SETS.items()}
    rows = []
    for title, by, lines in _TABLE.findall(text):
        for line in lines.splitlines()[2:]:
            value, plates, accuracy = (cell.strip() for cell in line.strip("|").split("|"))
            if title in sets and accuracy != "–":
                rows.append((sets[title], by, value, int(plates), float(accuracy)))
    return pd.DataFrame(rows, columns=_SLICE)


def slices_of_metrics(metrics: Metrics) -> pd.DataFrame:
    """Return the same table as ``slices_of_card`` from the metrics of evaluate_stack."""
    rows = [
        (name, by.removeprefix("by_"), value, row["count"], row["accuracy"])
        for name in SETS
        for by, values in (metrics if name == "val" else metrics.get(name, {})).items()
        if by.startswith("by_")
        for value, row in values.items()
        if row.get("accuracy") is not None
    ]
    return pd.DataFrame(rows, columns=_SLICE)


_TABLE = re.compile(r"^\*\*(.+), by (\w+).*\*\*\n\n((?:\|.*\n?)+)", re.MULTILINE)
_SLICE = ["set", "by", "slice", "plates", "accuracy"]


def _value(metrics: Metrics, name: str) -> Any:
    """Return a metric by its dotted name, or None if it is missing."""
    value: Any = metrics
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _describe(manifest: Manifest) -> None:
    megabytes = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    st.markdown(
        f"- created on {manifest.created[:10]} "
        f"from commit `{(manifest.git_revision or 'unknown')[:12]}`\n"
        f"- {manifest.localizer.name} and {manifest.recognizer.name}, "
        f"{manifest.localizer.parameters + manifest.recognizer.parameters:,} parameters, "
        f"{megabytes:.1f} MB\n"
        f"- minimum confidence of a returned text: {manifest.threshold:.3g}"
    )


def _describe_candidate(promoted: Manifest, is_evaluated: bool) -> None:
    if not is_evaluated:
        st.info(
            f"There is no evaluation in `{EVALUATION}`. Create it with `dvc repro evaluate_stack`."
        )
    try:
        manifest = read_manifest(CANDIDATE)
    except BundleError:
        st.caption(f"The bundle of the candidate is missing. Fetch it with `dvc pull {CANDIDATE}`.")
        return
    _describe(manifest)
    if manifest.files == promoted.files:
        st.success("These are the promoted models.", icon=":material/verified:")


def _show_slices(folder: Path, candidate: Metrics) -> None:
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    table = pd.concat(
        [
            slices_of_card(text).assign(model=PROMOTED),
            slices_of_metrics(candidate).assign(model=WORKSPACE),
        ]
    )
    if table.empty:
        return
    st.subheader("By slice", anchor=False)
    left, right = st.columns(2)
    name = left.selectbox("Set", [name for name in SETS if name in set(table["set"])])
    part = table[table["set"] == name]
    by = right.selectbox("By", list(dict.fromkeys(part["by"])))
    part = part[part["by"] == by].reset_index(drop=True)
    ends = [
        wilson(round(share * count), count)
        for share, count in zip(part["accuracy"], part["plates"], strict=True)
    ]
    part[["low", "high"]] = pd.DataFrame(ends, index=part.index).round(4)
    st.altair_chart(shares(part.drop(columns=["set", "by"]), "slice", "accuracy", "model"))


def _show_reliability() -> None:
    tables = [
        table.assign(set=name)
        for name in SETS
        if (table := read_table(EVALUATION / "plots" / f"reliability_{name}.csv")) is not None
    ]
    if tables:
        st.subheader("Reliability of the candidate's confidence", anchor=False)
        st.altair_chart(reliability(pd.concat(tables), "set"))


def _show_promotion(manifest: Manifest) -> None:
    verdict = manifest.metrics.get("promotion")
    if not verdict:
        return
    st.subheader("Comparison with the previous bundle at promotion", anchor=False)
    table = pd.DataFrame(verdict["sets"])
    names = {"name": "set", "promoted": "the one before", "candidate": "the promoted one"}
    st.dataframe(table.rename(columns=names), hide_index=True, width="stretch")
