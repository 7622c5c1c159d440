"""Load and check model bundles: both networks as ONNX files, with a manifest (no torch).

A bundle is a folder. It may also hold int8 versions of both networks (weights and activations). The
stage export_stack writes ``out/models/stack``; the promoted bundle, ``models``, is in Git.
``Bundle.load`` checks every file against the manifest before any of them is parsed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..core.charset import CHARSET
from ..core.errors import UserError
from ..core.geometry import Rectification
from .calibration import Calibration
from .colour import ColourModel

MANIFEST = "manifest.json"
LOCALIZER = "localizer.onnx"
RECOGNIZER = "recognizer.onnx"
INT8 = {LOCALIZER: "localizer.int8.onnx", RECOGNIZER: "recognizer.int8.onnx"}
"""Names of the int8 files; a bundle has both or none."""
FORMAT = "swiss-plate-reader bundle"
VERSION = 2
_FIRST_NAMES = {RECOGNIZER: "reader.onnx", INT8[RECOGNIZER]: "reader.int8.onnx"}
"""Names of files in bundles of version 1, where they differ."""
NAMES = frozenset({MANIFEST, LOCALIZER, RECOGNIZER, *INT8.values(), *_FIRST_NAMES.values()})
"""Names of the files of bundles of all versions."""
_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "bundle_data"
DEFAULT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "models"
"""Folder of the promoted bundle, in the checkout or in the installed package."""

_REMEDY = "Recreate it with `dvc repro export_stack` and `python -m src.promote`"


class BundleError(UserError):
    """A bundle is missing, damaged, or not one that this program can use."""


# Not pydantic: the reader also runs in MLEM's environment, which needs an old version of it.
class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Expected hash and size of a file in the bundle."""

    sha256: str
    bytes: int


class CharsetEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Classes that the recognizer was trained on."""

    tokens: tuple[str, ...]
    blank: int


class LocalizerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Localizer; its ONNX maps ``images`` uint8 (N, H, W) to ``maps`` float32 (N, 10, h, w)."""

    name: str
    """Name in src/models/registry.py."""
    input_shape: tuple[int, int, int]
    """Shape (1, height, width) of the training images; the only one accepted unless ``dense``."""
    dense: bool
    """Whether other sizes are accepted, which must be multiples of ``stride``."""
    stride: Annotated[int, msgspec.Meta(ge=1)]
    parameters: int


class RecognizerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recognizer; its ONNX maps ``images`` uint8 (N, h, w) to ``log_probs`` float32 (N, T, classes)."""

    name: str
    """Name in src/models/registry.py."""
    input_shape: tuple[int, int, int]
    """Shape (1, height, width) of the crops."""
    rectification: Rectification
    margin: float
    """Margin around the plate, as src/inference/crops.py cuts it."""
    upper: tuple[float, float] = (44 / 128, 0.2023)
    """Place of the upper line of two, as in src/inference/crops.py; by default that of bundles that do not
    state it."""
    parameters: int


class _Kind(msgspec.Struct):
    """Fields that manifests of every version have."""

    format: Any = None
    version: Any = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contents and provenance of a bundle."""

    format: str = FORMAT
    version: int = VERSION
    """Incremented when programs and bundles from before and after a change are incompatible."""
    created: str
    """Time of creation in UTC, ISO 8601."""
    git_revision: str | None
    """Commit of the code, with "-dirty" where files were changed after it."""
    dvc_lock: str | None
    """SHA-256 of dvc.lock."""
    hardware: dict[str, str]
    """Hardware that each step ran on, where it is known."""
    files: dict[str, FileEntry]
    charset: CharsetEntry
    localizer: LocalizerEntry
    recognizer: RecognizerEntry
    calibration: dict[str, Any]
    """Calibration, which src/inference/calibration.py parses."""
    colours: dict[str, Any] | None = None
    """Model of the plates' colours, which src/inference/colour.py parses; None where colours are not told."""
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """Minimum probability of a text that is returned."""
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been checked.

    Attributes:
        path: Folder of the bundle.
        manifest: Manifest of the bundle.
        calibration: Calibration from the manifest.
        contents: Contents of the ONNX files by file name, as they were when they were checked.
        colours: Model of the plates' colours; None where the bundle has none.
    """

    path: Path
    manifest: Manifest
    calibration: Calibration
    contents: Mapping[str, bytes]
    colours: ColourModel | None = None

    @property
    def has_int8(self) -> bool:
        """Whether the bundle has int8 models."""
        return INT8[LOCALIZER] in self.contents

    def networks(self, int8: bool = False) -> tuple[bytes, bytes]:
        """Return the localizer and the recognizer as ONNX.

        Raises:
            BundleError: The int8 models are requested, and the bundle has none.
        """
        if int8 and not self.has_int8:
            raise BundleError(f"{self.path}: does not contain int8 models")
        localizer, recognizer = (INT8[name] if int8 else name for name in (LOCALIZER, RECOGNIZER))
        return self.contents[localizer], self.contents[recognizer]

    @classmethod
    def load(cls, path: Path | str | None = None) -> Bundle:
        """Read and check a bundle.

        Args:
            path: Folder of the bundle; by default the promoted one.

        Raises:
            BundleError: A file is missing or is not the one that the manifest names, or the bundle was
                made for another version of this program.
        """
        folder = DEFAULT if path is None else Path(path)
        manifest = read_manifest(folder)
        names = [LOCALIZER, RECOGNIZER]
        if not manifest.files.keys().isdisjoint(INT8.values()):
            names += INT8.values()
        contents = {name: _checked(folder, name, manifest) for name in names}
        if other := set(manifest.files) - set(contents):
            raise BundleError(f"{folder / MANIFEST}: lists unknown files: {sorted(other)}")
        if manifest.charset != charset_entry():
            raise BundleError(
                f"{folder / MANIFEST}: its classes differ from those of src/core/charset.py. {_REMEDY}."
            )
        try:
            calibration = Calibration.from_dict(manifest.calibration)
        except UserError as error:
            raise BundleError(f"{folder / MANIFEST}: {error}") from error
        try:
            colours = None if manifest.colours is None else ColourModel.from_dict(manifest.colours)
        except ValueError as error:
            raise BundleError(f"{folder / MANIFEST}: colours: {error}. {_REMEDY}.") from error
        return cls(folder, manifest, calibration, contents, colours)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a bundle's folder, without checking the other files.

    Raises:
        BundleError: The manifest is missing, damaged or of another version.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        kind = msgspec.json.decode(content, type=_Kind)
    except FileNotFoundError:
        raise BundleError(
            f"{folder}: there is no bundle ({MANIFEST} is missing). {_REMEDY}."
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read: {error}. {_REMEDY}.") from error
    if kind.format != FORMAT:
        raise BundleError(f"{path}: not a bundle manifest. {_REMEDY}.")
    if kind.version not in (1, VERSION):
        raise BundleError(
            f"{path}: has version {kind.version}, but this program reads versions 1 and {VERSION}. "
            f"{_REMEDY}."
        )
    values = msgspec.json.decode(content)
    if kind.version == 1:
        values = _renamed(values)
    try:
        return msgspec.convert(values, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{path}: {error}. {_REMEDY}.") from error


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a manifest of version 1 with the names of the present version.

    What is missing stays so, which is an error later.
    """
    now = {old: new for new, old in _FIRST_NAMES.items()} | {"reader": "recognizer"}
    files = values.get("files")
    if isinstance(files, dict):
        files = {now.get(name, name): entry for name, entry in files.items()}
    return {now.get(name, name): value for name, value in values.items()} | {
        "version": VERSION,
        "files": files,
    }


def _checked(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the content of a file after checking it against the manifest."""
    path, before = folder / name, folder / _FIRST_NAMES.get(name, name)
    if before.exists() and not path.exists():
        path = before
    entry = manifest.files.get(name)
    if entry is None:
        raise BundleError(f"{folder / MANIFEST}: does not list {path.name}. {_REMEDY}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read: {error.strerror or error}. {_REMEDY}."
        ) from error
    if file_entry(content) != entry:
        raise BundleError(
            f"{path}: does not match {MANIFEST}: found {len(content)} bytes, expected "
            f"{entry.bytes} bytes with another SHA-256. Restore it with `git checkout -- {path}` if it "
            f"is in Git. {_REMEDY} otherwise."
        )
    return content


def file_entry(content: bytes) -> FileEntry:
    """Return the manifest entry of a file with this content."""
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def charset_entry() -> CharsetEntry:
    """Return the manifest entry of this program's classes."""
    return CharsetEntry(tokens=CHARSET.tokens, blank=CHARSET.blank)


def manifest_text(manifest: Manifest) -> str:
    """Return the content of a manifest file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode() + "\n"
