"""Charts shared by several pages, in Streamlit's light or dark theme."""

from __future__ import annotations

import altair as alt
import pandas as pd

Layers = alt.LayerChart | alt.FacetChart
"""Type that Altair declares for layered charts."""

_ALL = alt.Scale(domain=[0, 1])
_HEIGHT = 320
_RIGHT = "proportion correct"


def reliability(table: pd.DataFrame, colour: str) -> Layers:
    """Plot accuracy over confidence with 95 % intervals, beside the ideal diagonal.

    Args:
        table: Table with the columns confidence, accuracy, low, high, count, and one that identifies the
            series.
        colour: Name of the column that identifies the series.
    """
    ideal = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    x = alt.X("confidence:Q", scale=_ALL, title="confidence")
    y = alt.Y("accuracy:Q", scale=_ALL, title=_RIGHT)
    base = alt.Chart(table).encode(x, color=alt.Color(f"{colour}:N", title=None))
    line = alt.Chart(ideal).mark_line(strokeDash=[4, 4], opacity=0.5, color="grey").encode(x, y)
    bars = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", title=_RIGHT), y2="high:Q")
    points = base.mark_line(point=True).encode(
        y, tooltip=["confidence", "accuracy", "low", "high", "count", colour]
    )
    return alt.layer(line, bars, points).properties(height=_HEIGHT)


def shares(table: pd.DataFrame, x: str, y: str, colour: str) -> Layers:
    """Plot proportions with their 95 % intervals side by side, in the order of the table.

    Args:
        table: Table with a row for each point, and the columns low and high.
        x: Name of the column on the x axis.
        y: Name of the column with the proportions.
        colour: Name of the column that identifies the series placed side by side.
    """
    base = alt.Chart(table).encode(
        alt.X(f"{x}:N", sort=None, title=None),
        alt.XOffset(f"{colour}:N", sort=None),
        alt.Color(f"{colour}:N", sort=None, title=None),
    )
    height = alt.Y("low:Q", title=y, scale=alt.Scale(zero=False))
    bars = base.mark_rule(opacity=0.6).encode(height, y2="high:Q")
    points = base.mark_point(filled=True, size=60).encode(
        alt.Y(f"{y}:Q"), tooltip=list(table.columns)
    )
    return alt.layer(bars, points).properties(height=_HEIGHT)
