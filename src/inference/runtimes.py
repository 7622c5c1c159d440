"""What runs the exported networks: ONNX Runtime, or OpenVINO where the processor multiplies bf16 matrices.

ONNX Runtime has no bf16 on processors; it is fast with int8 models where the processor adds up
products of those.

Both are used by one call, ``Network.run``, from any number of threads at once. Both would send reports
of their use over the network when they are imported; here neither does.
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
"""What runs a network; "onnxruntime-int8" is given an int8 one."""
Sizes = frozenset[tuple[int, int]]
"""Heights and widths."""

_PIXELS_AT_ONCE = 400_000
_PICTURES_AT_ONCE = 64
"""A batch is run in parts of this size: what lies between two layers then stays in a core's caches."""


_CHANGES = 10
"""A copy of a network takes as long to make as so many changes of size."""


class RuntimeUnavailableError(UserError):
    """The runtime that is asked for is not installed."""


def best_runtime(has_int8: bool = False) -> Runtime:
    """The fastest one that is installed.

    Args:
        has_int8: whether there are int8 models.
    """
    try:
        if _multiplies_bf16_matrices() and _openvino_core():
            return "openvino"
    except RuntimeUnavailableError:
        pass
    return "onnxruntime-int8" if has_int8 and _adds_int8_products() else "onnxruntime"


def installed_runtimes(has_int8: bool = False) -> list[Runtime]:
    """All that run here, fast or not; the argument as of ``best_runtime``."""
    runtimes: list[Runtime] = ["onnxruntime"]
    if has_int8:
        runtimes.append("onnxruntime-int8")
    if find_spec("openvino") is not None:
        runtimes.append("openvino")
    return runtimes


class Network:
    """A network that takes pictures and gives arrays, as both of a bundle's do.

    Args:
        model: the content of its ONNX file.
        runtime: what runs it.
        threads: that may compute a call together.
        usual: heights and widths of which single pictures are usual, for which it is prepared.

    Raises:
        RuntimeUnavailableError: the runtime is not installed.
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
        # It takes a while to be made, and many a program never needs it.
        self._several: _Runner | None = None
        self._making = threading.Lock()

    def run(self, images: NDArray[np.uint8], together: bool = False) -> NDArray[np.float32]:
        """What the network makes of ``(N, H, W)`` pictures, N at least 1: ``(N, ...)``.

        Args:
            images: uint8.
            together: whether other threads may help with this call; they do where it is large.
        """
        runner = self._single
        if together and self._threads > 1 and images.size >= runner.together_from:
            with self._making:
                self._several = self._several or self._make(self._threads)
            runner = self._several
        most = max(1, min(_PICTURES_AT_ONCE, _PIXELS_AT_ONCE // images[0].size))
        parts, start = [], 0
        while start < len(images):
            count = runner.part(min(most, len(images) - start))
            parts.append(runner.run(images[start : start + count]))
            start += count
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Runner(Protocol):
    together_from: int
    """Pixels from which several threads are faster than one."""

    def __init__(self, model: bytes, usual: Sizes, threads: int) -> None: ...

    def part(self, count: int) -> int:
        """How many of ``count`` pictures are best run at once."""
        ...

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...


class _OnnxRuntime:
    """Sessions of ONNX Runtime may be used by several threads at once."""

    together_from = 4_000

    def __init__(self, model: bytes, _: Sizes, threads: int) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait for work would else keep their cores busy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def part(self, count: int) -> int:
        return count

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._session.run(None, {"images": images})[0]


@dataclass(eq=False)
class _Copy:
    """A compiled copy of a network.

    Attributes:
        request: OpenVINO's.
        shape: of the input that it had last.
        is_fixed: whether it takes no other.
    """

    request: Any
    shape: tuple[int, ...]
    is_fixed: bool

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """``(N, H, W)`` in one piece; the next call writes over what is given."""
        if self.is_fixed:
            self.request.get_input_tensor(0).data[:] = images
            self.request.infer()
        else:
            self.request.infer(images, share_inputs=True, share_outputs=True)
        return self.request.get_output_tensor(0).data


class _OpenVino:
    """Compiled copies of a network, each of them used by one thread at a time.

    Single pictures of usual sizes have copies for their size alone, which are faster. The other copies
    take any size, but some milliseconds to change to one that they did not have last; so numbers of
    pictures are powers of two, which they are filled up to where they are nearly one.
    """

    together_from = 30_000

    def __init__(self, model: bytes, usual: Sizes, threads: int) -> None:
        self._core, self._model, self._threads = _openvino_core(), model, threads
        self._usual = usual
        # More threads than cores compute nothing faster; and some sizes alternate.
        self._most_fixed = available_cores()
        self._most_others = available_cores() + 1
        self._made: Counter[tuple[int, ...] | None] = Counter()
        """Copies by the size that they are for, None for any."""
        self._changes: Counter[tuple[int, ...]] = Counter()
        """How often a size had to take a copy that had another one."""
        self._idle: list[_Copy] = []
        """Copies that nobody uses, the one used last at the end."""
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
        # By the size alone: a copy for one size gives what others give but for the last bits, and the
        # same picture must always give the same.
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
        """A copy that nobody else uses now."""
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
            # Pinned, all copies would share one core.
            "ENABLE_CPU_PINNING": False,
            # What was made for a size is kept, of some sizes; by default of thousands, megabytes each.
            "CPU_RUNTIME_CACHE_CAPACITY": 200,
            # OpenVINO would take bf16 for vectors of it too, with which it is slower than with float32.
            "INFERENCE_PRECISION_HINT": "bf16" if _multiplies_bf16_matrices() else "f32",
        }
        model = self._core.read_model(self._model)
        if is_fixed:
            model.reshape(list(shape))
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        return _Copy(request, shape, is_fixed)


@cache
def _import_onnxruntime() -> ModuleType:
    # It would write into the home directory and report what it runs (read when it is imported).
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
            # It would report that it was imported. Without this package it does not.
            sys.modules[name] = None  # type: ignore[assignment]  # that is how a module is hidden
        try:
            import openvino
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"OpenVINO cannot be imported: {error}. There is none for some machines; "
                'the runtime "onnxruntime" runs everywhere.'
            ) from error
        finally:
            if hidden:
                del sys.modules[name]
        # Its first use of NumPy initialises statics: two threads that do so at once wait for each other
        # for ever, one with Python's lock, one with C++'s.
        for shared in (True, False):
            openvino.Tensor(np.zeros(1, np.uint8), shared_memory=shared).data[:] = 1
        return openvino.Core()


def _adds_int8_products() -> bool:
    """Whether the processor has instructions for sums of products of bytes (VNNI, Arm's dot product).

    Older ones of Intel have such for sums of 16 bits alone, which overflow.
    """
    return not _INT8_FLAGS.isdisjoint(_processor_flags())


def _multiplies_bf16_matrices() -> bool:
    """Whether the processor has instructions for products of matrices of bf16 (AMX).

    Those for vectors, which more processors have, are not what makes bf16 fast.
    """
    return _BF16_FLAG in _processor_flags()


@cache
def _processor_flags() -> frozenset[str]:
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        # Not Linux: nothing is known, and floats are right everywhere.
        return frozenset()
    return frozenset(known.split())
