"""Pages of the dashboard, redrawn on each interaction."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from ..core.errors import UserError
from . import events, model, operation, quality, review, try_image

# Streamlit's own icons would be loaded from another host.
ICON = Path(__file__).parents[1] / "serve" / "page" / "icon.svg"


def main() -> None:
    """Draw the selected page."""
    st.set_page_config("Swiss Plate Reader", str(ICON), layout="wide")
    page = st.navigation(
        [
            st.Page(
                try_image.show, title="Try an image", icon=":material/add_a_photo:", default=True
            ),
            st.Page(review.show, title="Review", icon=":material/fact_check:", url_path="review"),
            st.Page(
                events.show, title="Events", icon=":material/directions_car:", url_path="events"
            ),
            st.Page(quality.show, title="Data", icon=":material/dataset:", url_path="data"),
            st.Page(model.show, title="Model", icon=":material/model_training:", url_path="model"),
            st.Page(
                operation.show,
                title="Operation",
                icon=":material/monitoring:",
                url_path="operation",
            ),
        ]
    )
    try:
        page.run()
    except UserError as error:
        st.error(str(error))
