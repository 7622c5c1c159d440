"""A reader of Swiss number plates that learns from synthetic plates alone.

from swiss_plates import PlateReader

for plate in PlateReader.load().read("photo.jpg"):
print(plate.plate, plate.confidence)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inference.reader import Plate, PlateReader, StreamResult

__version__ = "0.2.0"
__all__ = ["Plate", "PlateReader", "StreamResult", "__version__"]


def __getattr__(name: str) -> Any:
    # At the first use: the stages import this package too, and need no ONNX Runtime.
    if name in __all__:
        from .inference import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
