"""Settings of the dashboard: flags or environment variables, like those of the server."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..core.program import program


class Settings(BaseSettings):
    """Show the dashboard in the browser.

    Each flag can also be set by an environment variable: --max-pixels by PLATES_MAX_PIXELS.
    """

    model_config = SettingsConfigDict(
        env_prefix="PLATES_",
        env_ignore_empty=True,
        cli_prog_name=program("dashboard"),
        cli_kebab_case=True,
        cli_avoid_json=True,
        use_attribute_docstrings=True,
        frozen=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all interfaces."""
    port: int = Field(default=8501, ge=1, le=65535)
    """Port to listen on."""
    model: Path | None = None
    """Folder of the bundle; by default the promoted one."""
    server: HttpUrl = HttpUrl("http://127.0.0.1:8080")
    """URL of the server whose /metrics are shown on the Operation page."""

    feedback: SecretStr | None = None
    """Database of the server's feedback: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.
    By default nothing is stored, and there is nothing to review."""
    feedback_pictures: Path | None = None
    """Folder of the stored images; by default next to the SQLite file."""
    feedback_days: int | None = Field(default=None, ge=1, le=36_500)
    """Number of days after which the dashboard deletes images; by default only the server does."""
    max_feedback_mib: float = Field(default=4096.0, gt=0)
    """Maximum total size of the stored images in MiB."""

    events: SecretStr | None = None
    """Database of the events of cameras: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE; by
    default that of --feedback."""

    max_body_mib: int = Field(default=32, ge=1, le=1024)
    """Maximum size of an image file in MiB."""
    max_pixels: int = Field(default=50_000_000, ge=1)
    """Maximum number of pixels of an image."""
    max_side: int = Field(default=20_000, ge=1)
    """Maximum width and height of an image in pixels."""

    def variables(self) -> dict[str, str]:
        """Return the environment variables that are equivalent to these settings."""
        values = self.model_dump(exclude_none=True)
        return {
            f"PLATES_{name.upper()}": str(
                value.get_secret_value() if isinstance(value, SecretStr) else value
            )
            for name, value in values.items()
        }
