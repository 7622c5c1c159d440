"""The original project's networks as MLEM serves them: PyTorch, one image at a time (bench/serve.py).

This module is imported in MLEM's environment. PyTorch comes from .venv, which is searched last so that
MLEM finds the version of pydantic that it needs.

The types of ``predict`` are annotated. Otherwise MLEM would call it when it is saved to infer them, and
then search every module that this has loaded for what PyTorch needs, which takes minutes. MLEM reads
annotations as values, so they must not be strings here.
"""

import sys
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from mlem.contrib.numpy import NumpyNdarrayType
from mlem.core.data_type import DictType, PrimitiveType

ANY_IMAGE = NumpyNdarrayType(shape=(None, None), dtype="uint8")
ANSWER = DictType(item_types={"plate": PrimitiveType(ptype="str")})


class OriginalStack:
    """The original's pipeline: localizer, crop of the box, recognizer, greedy decoding.

    Args:
        folder: Folder of the traced networks.
        packages: Folder of the installed packages that include PyTorch.
    """

    def __init__(self, folder: str, packages: str) -> None:
        self.folder, self.packages = folder, packages
        self.networks: Any = None

    def __reduce__(self) -> Any:
        return OriginalStack, (self.folder, self.packages)

    def _load(self) -> Any:
        if self.networks is None:
            sys.path.append(self.packages)
            # MLEM would follow an import statement when it saves this object.
            self.torch = import_module("torch")
            self.networks = [
                self.torch.jit.load(f"{self.folder}/{name}.pt").eval()
                for name in ("localizer", "reader")
            ]
        return self.networks

    def _run(self, network: Any, image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, (84, 84), interpolation=cv2.INTER_AREA)
        with self.torch.inference_mode():
            pixels = self.torch.from_numpy(small)[None, None].float() / 255
            return network(pixels)[0].float().numpy()

    def predict(self, data: ANY_IMAGE) -> ANSWER:  # type: ignore[valid-type]  # MLEM's are values
        """Return a text, which is meaningless because the weights are not trained."""
        localizer, reader = self._load()
        image: np.ndarray = np.asarray(data)
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        # The output has one cell; its last eight channels are corners in pixels of the network's input.
        corners = self._run(localizer, grey)[2:].reshape(4, 2) / 84
        x1, y1 = (corners.min(axis=0).clip(0, 0.7) * (width, height)).astype(int)
        x2, y2 = (corners.max(axis=0).clip(0.3, 1) * (width, height)).astype(int)
        crop = grey[y1 : max(y2, y1 + 20), x1 : max(x2, x1 + 60)]
        classes = self._run(reader, crop).argmax(axis=1)
        return {"plate": "".join(chr(65 + int(each) % 26) for each in classes)}
