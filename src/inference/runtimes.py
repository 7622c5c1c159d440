"""Run the exported networks with ONNX Runtime, or with OpenVINO on a CPU with AMX-BF16.

ONNX Runtime has no bf16 on CPUs; it is fast with int8 models where the CPU has instructions for sums of
int8 products.

Both are used through one call, ``Network.run``, from any number of threads at once. Both would send
usage reports over the network when they are imported; here neither does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.machine import available_cores

Runtime = Literal["onnxruntime", "onnxruntime-int8", "openvino"]
"""Inference runtime of a network; "onnxruntime-int8" is given an int8 model."""
Sizes = frozenset[tuple[int, int]]
"""Set of heights and widths."""

_PIXELS_AT_ONCE = 400_000
_IMAGES_AT_ONCE = 64
"""Maximum number of pixels and of images that are run at once. Larger batches are run in parts, so
that the activations between two layers stay in a core's caches."""
IMAGES_AT_ONCE = "images_at_once"
"""Metadata property of an ONNX model that takes fewer."""

_CHANGES = 10
"""Making a copy of a network takes as long as this many changes of size."""


class RuntimeUnavailableError(UserError):
    """The requested runtime is not installed."""


def best_runtime(has_int8: bool = False) -> Runtime:
    """Return the fastest runtime that is installed.

    Args:
        has_int8: Whether there are int8 models.
    """
    try:
        if _multiplies_bf16_matrices() and _openvino_core():
            return "openvino"
    except RuntimeUnavailableError:
        pass
    return "onnxruntime-int8" if has_int8 and _adds_int8_products() else "onnxruntime"


def installed_runtimes(has_int8: bool = False) -> list[Runtime]:
    """Return all runtimes that work here, fast or not.

    Args:
        has_int8: Whether there are int8 models.
    """
    runtimes: list[Runtime] = ["onnxruntime"]
    if has_int8:
        runtimes.append("onnxruntime-int8")
    if find_spec("openvino") is not None:
        runtimes.append("openvino")
    return runtimes


class Network:
    """A network that maps images to arrays, as both networks of a bundle do.

    Args:
        model: Content of the ONNX file.
        runtime: Inference runtime that executes the network.
        threads: Maximum number of threads used per call.
        usual: Heights and widths that are usual for single images, for which the network is prepared.

    Raises:
        RuntimeUnavailableError: The runtime is not installed.
    """

    def __init__(
        self,
        model: bytes,
        runtime: Runtime,
        threads: int = 1,
        usual: Iterable[tuple[int, int]] = (),
    ) -> None:
        runner: type[_Runner] = _OpenVino if runtime == "openvino" else _OnnxRuntime
        self._make = partial(runner, model, frozenset(usual))
        self._threads = threads
        self._single: _Runner = self._make(1)
        # Made on demand: it takes a while, and many programs never need it.
        self._several: _Runner | None = None
        self._making = threading.Lock()

    def run(self, images: NDArray[np.uint8], together: bool = False) -> NDArray[np.float32]:
        """Run the network on ``(N, H, W)`` images, N at least 1, and return its output ``(N, ...)``.

        Args:
            images: Images as uint8.
            together: Whether other threads may help with this call; they do where it is large.
        """
        runner = self._single
        if together and self._threads > 1 and images.size >= runner.together_from:
            with self._making:
                self._several = self._several or self._make(self._threads)
            runner = self._several
        most = max(1, min(_IMAGES_AT_ONCE, _PIXELS_AT_ONCE // images[0].size))
        parts, start = [], 0
        while start < len(images):
            count = runner.part(min(most, len(images) - start))
            parts.append(runner.run(images[start : start + count]))
            start += count
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Runner(Protocol):
    together_from: int
    """Number of pixels from which on several threads are faster than one."""

    def __init__(self, model: bytes, usual: Sizes, threads: int) -> None: ...

    def part(self, count: int) -> int:
        """Return how many of ``count`` images are best run at once."""
        ...

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...


class _OnnxRuntime:
    """ONNX Runtime, whose sessions may be used by several threads at once."""

    together_from = 4_000

    def __init__(self, model: bytes, _: Sizes, threads: int) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for work would otherwise keep their cores busy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        properties = self._session.get_modelmeta().custom_metadata_map
        self._most = int(properties.get(IMAGES_AT_ONCE, _IMAGES_AT_ONCE))

    def part(self, count: int) -> int:
        return min(count, self._most)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._session.run(None, {"images": images})[0]


@dataclass(eq=False)
class _Copy:
    """A compiled copy of a network.

    Attributes:
        request: Inference request of OpenVINO.
        shape: Shape of the copy's last input.
        is_fixed: Whether the copy takes no other shape.
    """

    request: Any
    shape: tuple[int, ...]
    is_fixed: bool

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run images ``(N, H, W)`` in one piece; the next call overwrites the result."""
        if self.is_fixed:
            self.request.get_input_tensor(0).data[:] = images
            self.request.infer()
        else:
            self.request.infer(images, share_inputs=True, share_outputs=True)
        return self.request.get_output_tensor(0).data


class _OpenVino:
    """Compiled copies of a network, each used by one thread at a time.

    Single images of usual sizes have copies for their size only, which are faster. The other copies take
    any size, but need some milliseconds to change to a size other than their last. Numbers of images are
    therefore powers of two; batches are padded to the next one where they nearly reach it.
    """

    together_from = 30_000

    def __init__(self, model: bytes, usual: Sizes, threads: int) -> None:
        self._core, self._model, self._threads = _openvino_core(), model, threads
        self._usual = usual
        # More copies than cores compute nothing faster; one more helps where sizes alternate.
        self._most_fixed = available_cores()
        self._most_others = available_cores() + 1
        self._made: Counter[tuple[int, ...] | None] = Counter()
        """Number of copies by the size that they are for; None for any size."""
        self._changes: Counter[tuple[int, ...]] = Counter()
        """How often a size had to use a copy whose last input had another size."""
        self._idle: list[_Copy] = []
        """Copies that are not in use, the most recently used last."""
        self._returned = threading.Condition()

    def part(self, count: int) -> int:
        below = 1 << (count.bit_length() - 1)
        return count if 2 * count > 3 * below else below

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        count = len(images)
        filled = 1 << (count - 1).bit_length()
        if filled > count:
            images = np.concatenate(
                [images, np.zeros((filled - count, *images.shape[1:]), np.uint8)]
            )
        # Chosen by size alone: a copy for one size differs from the others in the last bits, and the
        # same image must always give the same result.
        is_fixed = count == 1 and images.shape[1:] in self._usual
        copy = self._take(images.shape, is_fixed)
        try:
            return np.array(copy.run(np.ascontiguousarray(images))[:count])
        finally:
            copy.shape = images.shape
            with self._returned:
                self._idle.append(copy)
                self._returned.notify_all()

    def _take(self, shape: tuple[int, ...], is_fixed: bool) -> _Copy:
        """Return a copy that no other thread is using."""
        kind = shape if is_fixed else None
        with self._returned:
            while True:
                idle = [copy for copy in self._idle if copy.is_fixed == is_fixed]
                same = [copy for copy in idle if copy.shape == shape]
                if is_fixed:
                    may_make, idle = self._made[kind] < self._most_fixed, same
                else:
                    may_make = self._made[kind] < self._most_others
                    may_make &= not idle or self._changes[shape] >= _CHANGES
                if not same and may_make:
                    self._made[kind] += 1
                    break
                if idle:
                    copy = (same or idle)[0]
                    self._changes[shape] += not same
                    self._idle.remove(copy)
                    return copy
                self._returned.wait()
        try:
            return self._compile(shape, is_fixed)
        except BaseException:
            with self._returned:
                self._made[kind] -= 1
                self._returned.notify_all()
            raise

    def _compile(self, shape: tuple[int, ...], is_fixed: bool) -> _Copy:
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            # With pinning, all copies would share one core.
            "ENABLE_CPU_PINNING": False,
            # Number of sizes whose prepared data are kept; by default thousands, at megabytes each.
            "CPU_RUNTIME_CACHE_CAPACITY": 200,
            # OpenVINO would also use bf16 with vector instructions alone, where it is slower than
            # float32.
            "INFERENCE_PRECISION_HINT": "bf16" if _multiplies_bf16_matrices() else "f32",
        }
        model = self._core.read_model(self._model)
        if is_fixed:
            model.reshape(list(shape))
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        return _Copy(request, shape, is_fixed)


@cache
def _import_onnxruntime() -> ModuleType:
    # ONNX Runtime would write into the home directory and report what it runs (read on import).
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"ONNX Runtime cannot be imported: {error}. Install it with `make setup`."
        ) from error
    return onnxruntime


_IMPORTING = threading.Lock()
_BF16_FLAG = "amx_bf16"
_INT8_FLAGS = {"avx512_vnni", "avx_vnni", "asimddp"}


@cache
def _openvino_core() -> Any:
    with _IMPORTING:
        name = "openvino_telemetry"
        hidden = name not in sys.modules
        if hidden:
            # OpenVINO would report that it was imported; without this package it does not.
            sys.modules[name] = None  # type: ignore[assignment]  # None hides a module
        try:
            import openvino
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"OpenVINO cannot be imported: {error}. It is not available on all "
                'platforms; the runtime "onnxruntime" runs everywhere.'
            ) from error
        finally:
            if hidden:
                del sys.modules[name]
        # OpenVINO's first use of NumPy initialises statics: two threads that do so at once deadlock, one
        # holding Python's lock, the other C++'s.
        for shared in (True, False):
            openvino.Tensor(np.zeros(1, np.uint8), shared_memory=shared).data[:] = 1
        return openvino.Core()


def _adds_int8_products() -> bool:
    """Return whether the CPU has instructions for sums of int8 products (VNNI, Arm's dot product).

    Older Intel CPUs have such instructions for 16-bit sums only, which overflow.
    """
    return not _INT8_FLAGS.isdisjoint(_processor_flags())


def _multiplies_bf16_matrices() -> bool:
    """Return whether the CPU has instructions for products of bf16 matrices (AMX).

    Vector instructions for bf16, which more CPUs have, are not what makes it fast.
    """
    return _BF16_FLAG in _processor_flags()


@cache
def _processor_flags() -> frozenset[str]:
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        # Not Linux: the flags are unknown, and float32 works everywhere.
        return frozenset()
    return frozenset(known.split())
