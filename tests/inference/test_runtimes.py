"""Both runtimes give the same, from any thread, and report to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from src.inference import runtimes
from src.inference.runtimes import (
    Network,
    Runtime,
    RuntimeUnavailableError,
    best_runtime,
    installed_runtimes,
)

ROOT = Path(__file__).parents[2]
RUNTIMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name not in installed_runtimes(has_int8=True), reason=f"{name} is not for this machine"
        ),
    )
    for name in get_args(Runtime)
]

# Of each image the sum of every row: the results tell images, and rows, apart.
_MODEL = """<ir_version: 8, opset_import: ["" : 18]>
sums (uint8[N,H,W] images) => (float[N,H] sums) {
  pixels = Cast <to = 1> (images)
  axis = Constant <value_ints = [2]> ()
  sums = ReduceSum <keepdims = 0> (pixels, axis)
}
"""


@pytest.fixture(scope="module")
def model() -> bytes:
    return onnx.parser.parse_model(_MODEL).SerializeToString()


def random_images(
    count: int, height: int = 24, width: int = 32, seed: int = 0
) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


def expected(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.sum(axis=2, dtype=np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("together", [False, True])
def test_any_number_of_any_size(model: bytes, runtime: Runtime, together: bool) -> None:
    network = Network(model, runtime, threads=2)
    # The last are more than are run at once, and too large to be run with others.
    shapes = [(count, 8, 8) for count in (*range(1, 20), 31, 33)]
    for shape in [*shapes, (5, 24, 32), (1, 8, 8), (300, 24, 32), (3, 700, 800)]:
        images = random_images(*shape)
        result = network.run(images, together)
        assert result.dtype == np.float32
        assert np.array_equal(result, expected(images))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_that_do_not_lie_in_one_piece(model: bytes, runtime: Runtime) -> None:
    images = random_images(6, 48, 64)[::2, ::2, ::-2]
    assert np.array_equal(Network(model, runtime).run(images), expected(images))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_result_stays_when_the_next_comes(model: bytes, runtime: Runtime) -> None:
    network = Network(model, runtime)
    first = network.run(random_images(2))
    copy = first.copy()
    network.run(random_images(2, seed=1))
    assert np.array_equal(first, copy)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_eight_threads_at_once(model: bytes, runtime: Runtime) -> None:
    network = Network(model, runtime, threads=2)
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            images = random_images(1 + (number + turn) % 5, 8 * (1 + turn % 3), 600, seed=number)
            if not np.array_equal(network.run(images, together=bool(turn % 2)), expected(images)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


WITH_OPENVINO = pytest.mark.skipif(
    find_spec("openvino") is None, reason="there is no OpenVINO for this machine"
)


def copies(network: Network) -> list[tuple[tuple[int, ...], bool]]:
    """Of each idle copy the size that it had last, and whether it takes no other."""
    return [(copy.shape, copy.is_fixed) for copy in network._single._idle]  # type: ignore[attr-defined]


@WITH_OPENVINO
def test_a_single_image_of_a_usual_size_has_a_copy_of_its_own(model: bytes) -> None:
    network = Network(model, "openvino", usual=[(16, 16), (24, 16)])
    for shape in [(1, 16, 16), (1, 24, 16), (1, 16, 24), (2, 16, 16)] * 2:
        images = random_images(*shape)
        assert np.array_equal(network.run(images), expected(images))
    assert copies(network) == [((1, 16, 16), True), ((1, 24, 16), True), ((2, 16, 16), False)]


@WITH_OPENVINO
def test_other_sizes_in_turn_get_a_copy_each_after_a_while(model: bytes) -> None:
    """To change takes some milliseconds, to make a copy as much as ten of them."""
    network = Network(model, "openvino")
    sizes = [(2, 16, 16), (2, 24, 24)]
    for shape in sizes * 3:
        network.run(random_images(*shape))
    assert copies(network) == [(sizes[1], False)]
    for shape in sizes * 20:
        network.run(random_images(*shape))
    assert sorted(copies(network)) == [(shape, False) for shape in sizes]
    # A size that is rare takes the one that was not used for longest.
    network.run(random_images(2, 8, 8))
    assert copies(network) == [(sizes[1], False), ((2, 8, 8), False)]


@WITH_OPENVINO
def test_the_number_of_copies_has_a_limit(model: bytes) -> None:
    network = Network(model, "openvino")
    sizes = [(2, 8 * side, 8) for side in range(1, 40)]
    for shape in sizes * 25:
        images = random_images(*shape)
        assert np.array_equal(network.run(images), expected(images))
    assert len(copies(network)) == network._single._most_others  # type: ignore[attr-defined]


@WITH_OPENVINO
def test_more_threads_than_cores_wait_for_each_other(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "available_cores", lambda: 2)
    network = Network(model, "openvino", usual=[(8, 400), (16, 400), (24, 400)])
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(40):
            images = random_images(1 + (number + turn) % 2, 8 + 8 * ((number + turn) % 3), 400)
            if not np.array_equal(network.run(images), expected(images)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    kinds = Counter(copies(network))
    assert max(count for (_, is_fixed), count in kinds.items() if is_fixed) <= 2
    assert sum(count for (_, is_fixed), count in kinds.items() if not is_fixed) <= 4


@WITH_OPENVINO
def test_a_copy_that_cannot_be_made_is_not_waited_for(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(model, "openvino")
    make = runtimes._OpenVino._compile
    left = [3 * network._single._most_others]  # type: ignore[attr-defined]

    def fail(self: runtimes._OpenVino, *arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise MemoryError
        return make(self, *arguments)

    monkeypatch.setattr(runtimes._OpenVino, "_compile", fail)
    for _ in range(left[0]):
        with pytest.raises(MemoryError):
            network.run(random_images(2))
    assert np.array_equal(network.run(random_images(2)), expected(random_images(2)))


@WITH_OPENVINO
def test_little_is_computed_for_nothing(model: bytes) -> None:
    """A number is filled up to a power of two, or cut into some; sizes are few, and so is waste."""
    network = Network(model, "openvino")
    for count in range(1, 70):
        network.run(random_images(count, 8, 8))
        parts, left = [], count
        while left:
            parts.append(network._single.part(min(left, 64)))
            left -= parts[-1]
        filled = [1 << (part - 1).bit_length() for part in parts]
        assert sum(filled) <= 1.34 * count
        assert len(parts) <= 5
    assert {shape[0] for shape, _ in copies(network)} <= {1, 2, 4, 8, 16, 32, 64}


AMX, VNNI = "avx512f avx512_bf16 avx512_vnni amx_bf16 amx_int8", "avx512f avx512_bf16 avx512_vnni"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Gives the processor other flags; None is a system that does not tell them."""

    def set_flags(flags: str | None) -> None:
        def read_text(self: Path, **_: Any) -> str:
            if flags is None:
                raise FileNotFoundError(2, "No such file or directory")
            return f"processor : 0\nflags : {flags}\n"

        runtimes._processor_flags.cache_clear()
        monkeypatch.setattr(Path, "read_text", read_text)

    yield set_flags
    runtimes._processor_flags.cache_clear()


def test_a_runtime_that_is_not_there(
    model: bytes, monkeypatch: pytest.MonkeyPatch, processor: Callable[[str | None], None]
) -> None:
    processor(AMX)
    runtimes._openvino_core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    try:
        assert best_runtime() == "onnxruntime"
        with pytest.raises(RuntimeUnavailableError, match="onnxruntime"):
            Network(model, "openvino")
    finally:
        runtimes._openvino_core.cache_clear()


@pytest.mark.parametrize(
    ("flags", "best", "with_int8"),
    [
        pytest.param(AMX, "openvino", "openvino", marks=WITH_OPENVINO),
        # Vectors of bf16 do not make it fast.
        (VNNI, "onnxruntime", "onnxruntime-int8"),
        ("fp asimd asimddp", "onnxruntime", "onnxruntime-int8"),
        ("sse4_2 avx2 avx512f avx512_vnnix", "onnxruntime", "onnxruntime"),
        (None, "onnxruntime", "onnxruntime"),
    ],
)
def test_the_fastest_runtime_depends_on_the_processor(
    processor: Callable[[str | None], None], flags: str | None, best: str, with_int8: str
) -> None:
    processor(flags)
    assert best_runtime() == best
    assert best_runtime(has_int8=True) == with_int8


@WITH_OPENVINO
@pytest.mark.parametrize(("flags", "is_bf16"), [(AMX, True), (VNNI, False)])
def test_openvino_computes_in_bf16_where_that_is_fast(
    processor: Callable[[str | None], None],
    monkeypatch: pytest.MonkeyPatch,
    model: bytes,
    flags: str,
    is_bf16: bool,
) -> None:
    cores = runtimes.available_cores()
    processor(flags)
    # The number of cores is read from files of the system, too.
    monkeypatch.setattr(runtimes, "available_cores", lambda: cores)
    compiled = []
    core = runtimes._openvino_core()

    class Recorder:
        read_model = core.read_model

        def compile_model(self, *arguments: Any) -> Any:
            compiled.append(core.compile_model(*arguments))
            return compiled[-1]

    monkeypatch.setattr(runtimes, "_openvino_core", Recorder)
    Network(model, "openvino").run(random_images(1, 8, 8))
    # A processor without any bf16 computes in float32, whatever it is told.
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = str(compiled[0].get_property("INFERENCE_PRECISION_HINT"))
    assert ("bfloat16" in found) == (is_bf16 and able)


def test_nothing_is_written_home_and_nobody_is_called(model: bytes, tmp_path: Path) -> None:
    """Both libraries write an identifier into the home directory before they report."""
    (tmp_path / "model.onnx").write_bytes(model)
    program = f"""
import socket, sys
def refuse(*arguments, **_):
    raise SystemExit(f"somebody is called: {{arguments}}")
socket.socket.connect = socket.getaddrinfo = refuse
sys.path.insert(0, {str(ROOT)!r})
from importlib.util import find_spec
from pathlib import Path
import numpy as np
from src.inference.runtimes import Network, best_runtime
best_runtime()
for runtime in {installed_runtimes()!r}:
    Network(Path("model.onnx").read_bytes(), runtime).run(np.zeros((1, 8, 8), np.uint8))
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
import openvino_telemetry  # it is there for others
""".replace(
        "import openvino_telemetry  # it is there for others\n",
        "import openvino_telemetry\n" if find_spec("openvino_telemetry") else "",
    )
    home = tmp_path / "home"
    home.mkdir()
    kept = ("PATH", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env={**environment, "HOME": str(home)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert list(home.rglob("*")) == []
