"""Settings of the server, from flags or environment variables (PLATES_PORT and so on)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..core.machine import available_cores
from ..core.program import program

_MOST_WORKERS = 64


class Settings(BaseSettings):
    """Serve the plate reader over HTTP.

    Each flag can also be set by an environment variable: --max-files by PLATES_MAX_FILES.
    """

    model_config = SettingsConfigDict(
        env_prefix="PLATES_",
        cli_prog_name=program("serve"),
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        frozen=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on all interfaces, :: on all of IPv6 and IPv4."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 selects any free port."""
    engine: Literal["native", "mlem"] = "native"
    """Server to run: this one, or MLEM's with the stack saved by python -m src.save_stack."""
    model: Path | None = None
    """Folder of the bundle; by default the promoted one. SIGHUP reloads it."""

    root_path: str = Field("", pattern=r"^(/[A-Za-z0-9._~-]+)*/?$")
    """Path below which a proxy offers this server, such as /plates; the proxy may remove it from requests or
    leave it there."""
    trusted_proxies: str = "127.0.0.1,::1"
    """Addresses and networks of the proxies, separated by commas, such as 10.0.0.0/8. Only their
    X-Forwarded-For and X-Forwarded-Proto are believed; empty for no proxy."""
    keep_alive_s: int = Field(75, ge=1, le=3600)
    """Time in seconds after which an idle connection is closed. Longer than the proxy keeps it (nginx 60), or
    the proxy would send requests into connections that are being closed."""

    workers: int = Field(
        default_factory=lambda: min(available_cores(), _MOST_WORKERS), ge=1, le=_MOST_WORKERS
    )
    """Number of batches processed at the same time, and of threads that one batch may use; by default the
    number of cores that affinity and CPU quota allow, at most 64."""
    batch: int = Field(16, ge=1, le=256)
    """Maximum number of images in a batch."""
    window_ms: float = Field(2.0, ge=0, le=100)
    """Time in milliseconds that an incomplete batch waits for requests that are arriving."""
    queue: int = Field(128, ge=1, le=100_000)
    """Maximum number of images waiting or in progress; further requests get a 503 at once."""
    deadline_s: float = Field(10.0, gt=0, le=600)
    """Time limit of a request in seconds; after it, the request gets a 503, or a 408 if its body has not
    arrived by then."""
    drain_s: float = Field(0.0, ge=0, le=600)
    """Time in seconds after SIGTERM in which new requests get a 503 before the port is closed, so that a
    load balancer can check /readyz."""
    grace_s: float = Field(20.0, gt=0, le=600)
    """Time in seconds after that to finish the requests in progress, and as much again to store images if the
    database of --feedback fails."""
    header_s: float = Field(10.0, gt=0, le=600)
    """Time limit in seconds for the headers of a request to arrive; after it, the connection is closed."""

    max_body_mib: float = Field(32.0, gt=0, le=1024)
    """Maximum size of a request's body in MiB; at most --max-pending-mib."""
    max_pending_mib: float = Field(256.0, gt=0)
    """Maximum total size of all pending bodies in MiB; further requests get a 503 at once."""
    max_files: int = Field(16, ge=1, le=1000)
    """Maximum number of images in a request; at most --queue."""
    max_pixels: int = Field(50_000_000, ge=1)
    """Maximum number of pixels of an image."""
    max_side: int = Field(20_000, ge=1)
    """Maximum width and height of an image in pixels."""
    max_header_kib: int = Field(32, ge=1, le=1024)
    """Maximum size of a request's headers in KiB."""
    max_connections: int = Field(4096, ge=1, le=100_000)
    """Maximum number of connections; further ones get a 503 at once, except for health and metrics."""

    max_clips: int = Field(4, ge=0, le=1000)
    """Maximum number of clips that arrive, wait or are read; further ones get a 503 at once. 0 refuses
    all."""
    clip_processes: int = Field(1, ge=1, le=64)
    """Number of clips that are read at the same time, each by a process of the lowest priority with one
    thread."""
    max_clip_mib: float = Field(256.0, gt=0, le=16_384)
    """Maximum size of a clip in MiB. Clips are in the folder for temporary files (TMPDIR) until they are
    read."""
    max_clip_s: float = Field(600.0, gt=0, le=86_400)
    """Maximum length of a clip in seconds."""
    clip_deadline_s: float = Field(1800.0, gt=0, le=86_400)
    """Time limit in seconds for a clip to arrive and to be read."""

    api_keys: Path | None = None
    """File with one line per API key: sha256: and the key's SHA-256; if set, requests need one of the keys in
    the header X-API-Key."""
    rate: float = Field(0.0, ge=0)
    """Maximum average number of images per second from one API key or address (IPv6: from one /64 network); 0
    means no limit."""
    burst: int = Field(32, ge=1)
    """Maximum number of images at once from one API key or address."""

    feedback: SecretStr | None = None
    """Database for images, predictions and user feedback: sqlite:///FILE or
    postgresql://USER:PASSWORD@HOST/DATABASE. By default nothing is stored."""
    feedback_pictures: Path | None = None
    """Folder of the stored images; by default next to the SQLite file."""
    feedback_days: int = Field(90, ge=1, le=36_500)
    """Number of days after which an image is deleted with all its data."""
    max_feedback_mib: float = Field(4096.0, gt=0)
    """Maximum total size of the stored images in MiB; further images are read, but not stored."""

    @field_validator("root_path")
    @classmethod
    def _without_slash(cls, path: str) -> str:
        return path.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: str) -> str:
        names = [name.strip() for name in proxies.split(",") if name.strip()]
        for name in names:
            try:
                ipaddress.ip_network(name)
            except ValueError as error:
                raise ValueError(
                    f"not an address or a network such as 10.0.0.0/8: {error}"
                ) from None
        return ",".join(names)

    @property
    def feedback_url(self) -> str | None:
        """URL of the database with its password; None where nothing is kept."""
        return (self.feedback and self.feedback.get_secret_value()) or None

    @property
    def max_body(self) -> int:
        """Maximum size of a request's body in bytes.

        A larger one than all pending bodies may have together could never be accepted, so that "try again"
        would be wrong. The same is true of ``most_files``.
        """
        return min(round(self.max_body_mib * 2**20), self.max_pending)

    @property
    def max_clip(self) -> int:
        """Maximum size of a clip in bytes."""
        return round(self.max_clip_mib * 2**20)

    @property
    def most_files(self) -> int:
        """Maximum number of images in a request."""
        return min(self.max_files, self.queue)

    @property
    def max_pending(self) -> int:
        """Maximum total size of all bodies that are held, in bytes."""
        return round(self.max_pending_mib * 2**20)

    @property
    def max_feedback(self) -> int:
        """Maximum total size of all images that are kept, in bytes."""
        return round(self.max_feedback_mib * 2**20)
