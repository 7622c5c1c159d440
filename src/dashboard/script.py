"""Script that Streamlit runs by its path: outside any package, so relative imports would fail."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

package = Path(__file__).resolve().parents[1].name
import_module(f"{package}.dashboard.app").main()
