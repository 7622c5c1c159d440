"""Version of a bundle as given in responses."""

from __future__ import annotations

from ..inference.bundle import Manifest


def bundle_version(manifest: Manifest) -> str:
    """Return the beginnings of the hashes of a bundle's files."""
    files = manifest.files
    return "-".join(files[name].sha256[:8] for name in sorted(files))
