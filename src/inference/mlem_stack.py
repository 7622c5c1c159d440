"""The stack as MLEM saves and serves it, imported in MLEM's environment only (.venv-mlem).

MLEM pickles what it saves. The pickle therefore holds a reference and no network: the folder of a bundle
and the hash of its manifest, which in turn holds those of the ONNX files.

MLEM reads annotations as values: they must not be left as strings here.
"""

import hashlib
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mlem.contrib.numpy import NumpyNdarrayType
from mlem.core.data_type import DataSerializer, DataType, WithDefaultSerializer
from mlem.core.requirements import Requirements
from numpy.typing import NDArray
from pydantic import BaseModel

from .bundle import MANIFEST, BundleError
from .reader import PlateReader


class PlateModel(BaseModel):
    """Response of POST /predict."""

    plate: str | None
    canton: str | None
    number: str | None
    confidence: float | None


class PlateType(WithDefaultSerializer, DataType):
    """Data type of a response; MLEM's own dictionary types do not allow nulls."""

    def get_requirements(self) -> Requirements:
        return Requirements.new()

    def get_writer(self, project: Any = None, filename: Any = None, **_: Any) -> Any:
        raise NotImplementedError


class PlateSerializer(DataSerializer):
    """Serializer of a response to JSON."""

    data_class: ClassVar = PlateType
    is_default: ClassVar = True

    def serialize(self, data_type: DataType, instance: Any) -> Any:
        return instance

    def deserialize(self, data_type: DataType, obj: Any) -> Any:
        return obj

    def get_model(self, data_type: DataType, prefix: str = "") -> Any:
        return PlateModel


ANY_IMAGE = NumpyNdarrayType(shape=(None, None), dtype="uint8")


class Stack:
    """A reader that is loaded on first use.

    Args:
        folder: Folder of the bundle.
        sha256: SHA-256 of the bundle's manifest.
    """

    def __init__(self, folder: str, sha256: str) -> None:
        self.folder, self.sha256 = folder, sha256
        self._reader: PlateReader | None = None
        self._loading = threading.Lock()

    def __reduce__(self) -> Any:
        return Stack, (self.folder, self.sha256)

    @classmethod
    def of(cls, folder: Path) -> "Stack":
        """Create the stack of a bundle, loading the bundle to check it.

        Raises:
            BundleError: The bundle is missing or damaged.
        """
        stack = cls(str(folder), _sha256(folder))
        stack.reader()
        return stack

    def reader(self) -> PlateReader:
        """Return the reader, loading the bundle on the first call.

        Raises:
            BundleError: The bundle is missing or damaged, or is not the one that was saved.
        """
        with self._loading:
            if self._reader is None:
                if _sha256(Path(self.folder)) != self.sha256:
                    raise BundleError(
                        f"{self.folder}: not the bundle that was saved for MLEM. Save it again with "
                        "`python -m src.save_stack`."
                    )
                self._reader = PlateReader.load(self.folder)
            return self._reader

    def predict(self, data: ANY_IMAGE) -> PlateType():  # type: ignore[valid-type]  # MLEM's types
        """Return the best plate of an ``(H, W)`` or ``(H, W, 3)`` RGB image, or nulls if it has none."""
        pixels: NDArray[np.uint8] = np.asarray(data)
        for plate in self.reader().read(pixels):
            if plate.plate is not None:
                return {
                    "plate": plate.plate,
                    "canton": plate.canton,
                    "number": plate.number,
                    "confidence": round(plate.confidence, 4),
                }
        return dict.fromkeys(("plate", "canton", "number", "confidence"))


def _sha256(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{folder}: there is no bundle: {error}") from error
