"""Settings of the server, from flags or environment variables (PLATES_PORT and so on)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..core.machine import available_cores
from ..core.program import program


class Settings(BaseSettings):
    """Serve the plate reader over HTTP.

    Each flag can be set by a variable of the environment as well: --max-files by PLATES_MAX_FILES.
    """

    model_config = SettingsConfigDict(
        env_prefix="PLATES_",
        cli_prog_name=program("serve"),
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        use_attribute_docstrings=True,
        frozen=True,
    )

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every one that the machine has."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen at; 0 is any that is free."""
    engine: Literal["native", "mlem"] = "native"
    """This server, or MLEM's with what python -m src.save_stack has saved."""
    model: Path | None = None
    """Folder of the bundle; by default the promoted one. It is read anew on SIGHUP."""

    workers: int = Field(default_factory=available_cores, ge=1, le=64)
    """Batches that are computed at the same time; by default as many as there are cores."""
    batch: int = Field(16, ge=1, le=256)
    """Images in a batch, at most."""
    window_ms: float = Field(2.0, ge=0, le=100)
    """How long a batch that is not full waits for requests that are arriving."""
    queue: int = Field(128, ge=1, le=100_000)
    """Images that wait or are computed, at most; more are answered 503 at once."""
    deadline_s: float = Field(10.0, gt=0, le=600)
    """A request that is not answered so many seconds after it began is answered 503, or 408 if it had
    not arrived by then."""
    drain_s: float = Field(0.0, ge=0, le=600)
    """After SIGTERM, new requests are answered 503 for so long before the port is closed: time for a
    load balancer to look at /readyz."""
    grace_s: float = Field(20.0, gt=0, le=600)
    """After that, requests in flight have so long to be answered."""

    max_body_mib: float = Field(32.0, gt=0, le=1024)
    """Size of a request's body in MiB, at most."""
    max_pending_mib: float = Field(256.0, gt=0)
    """Size in MiB of all bodies that are held, at most; more are answered 503 at once."""
    max_files: int = Field(16, ge=1, le=1000)
    """Images in a request, at most."""
    max_pixels: int = Field(50_000_000, ge=1)
    """Pixels of an image, at most."""
    max_side: int = Field(20_000, ge=1)
    """Width and height of an image, at most."""
    max_header_kib: int = Field(32, ge=1, le=1024)
    """Size of a request's headers in KiB, at most."""
    max_connections: int = Field(4096, ge=1, le=100_000)
    """Connections, at most; more are answered 503 at once."""

    api_keys: Path | None = None
    """File with a key a line; with it, requests need one of them in the header X-API-Key."""
    rate: float = Field(0.0, ge=0)
    """Images a second that a key or an address may send on average; 0 is any number."""
    burst: int = Field(32, ge=1)
    """Images that it may send at once."""

    feedback: SecretStr | None = None
    """Database that keeps images, what was read in them, and what users say about it:
    sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. By default nothing is kept."""
    feedback_pictures: Path | None = None
    """Folder of the images that are kept; by default beside SQLite's file."""
    feedback_days: int = Field(90, ge=1, le=36_500)
    """Days after which an image is deleted with all that belongs to it."""
    max_feedback_mib: float = Field(4096.0, gt=0)
    """Size in MiB of all images that are kept, at most; more are read, but not kept."""

    @property
    def feedback_url(self) -> str | None:
        """URL of the database with its password; None where nothing is kept."""
        return (self.feedback and self.feedback.get_secret_value()) or None

    @property
    def max_body(self) -> int:
        """Maximum size of a request's body in bytes."""
        return round(self.max_body_mib * 2**20)

    @property
    def max_pending(self) -> int:
        """Maximum total size of all bodies that are held, in bytes."""
        return round(self.max_pending_mib * 2**20)

    @property
    def max_feedback(self) -> int:
        """Maximum total size of all images that are kept, in bytes."""
        return round(self.max_feedback_mib * 2**20)
