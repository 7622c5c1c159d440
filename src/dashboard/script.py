"""The file that Streamlit runs: by its path, outside of any package, so that relative imports fail in it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

package = Path(__file__).resolve().parents[1].name
import_module(f"{package}.dashboard.app").main()
