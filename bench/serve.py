"""Benchmark of two servers: this project's, and MLEM's with the original project's two networks.

    python bench/serve.py [--seconds 6] [--clients 1 8 64] [--overload 40] [--json]

Both run on this machine, one after the other, and get requests from bench/load.py in a separate process:
256x256 scenes as JPEG in a closed loop, with different numbers of clients. The native server also gets
street photos of two megapixels, and an open loop at four times the rate that it can handle. The original
project's networks (plate_localizer_v3, plate_ocr_v2, randomly initialised) run with PyTorch in MLEM's
server, as in the original project. Requires ``make mlem``; the native server runs in .venv-serve if
``make serve`` has created it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import cv2
import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from generator import with_backgrounds
from reader import coloured, draw

from src.config import Config, load_config
from src.core.errors import UserError
from src.core.provenance import machine
from src.datasets.prepare import StreetMix

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCENES, PHOTOGRAPHS = 64, 8
SCENE_SIDE, PHOTOGRAPH_SIDE = 256, 1414
OVERLOAD = 4
"""Request rate of the open loop, as a multiple of what the server can handle."""
READY_SECONDS = 60


def write_images(config: Config, folder: Path) -> tuple[Path, Path]:
    """Write JPEG files and return the folder of the scenes and that of the photographs."""
    scenes, photographs = folder / "scenes", folder / "photographs"
    drawn = draw(config, SCENES, SCENE_SIDE, StreetMix(0.0))
    streets = draw(config, PHOTOGRAPHS, PHOTOGRAPH_SIDE, StreetMix(1.0))
    for path, images, quality in ((scenes, drawn, 90), (photographs, streets, 90)):
        path.mkdir()
        for number, image in enumerate(images):
            shown = coloured(image) if path == photographs else image
            options = [cv2.IMWRITE_JPEG_QUALITY, quality]
            if not cv2.imwrite(str(path / f"{number:03}.jpg"), shown, options):
                raise OSError(f"{path}: cannot be written")
    return scenes, photographs


def trace_seed(config: Config, folder: Path) -> None:
    """Trace the original's two networks into files that PyTorch runs without their code."""
    import torch

    from src.models.registry import build_localizer, build_recognizer

    for name, network in (
        ("localizer", build_localizer("plate_localizer_v3", config)),
        ("reader", build_recognizer("plate_ocr_v2", config)),
    ):
        sample = torch.zeros(1, *network.input_shape)
        torch.jit.trace(network.eval(), sample).save(str(folder / f"{name}.pt"))


class Server:
    """The process of a server.

    Args:
        command: Command that starts the server.
        port: Port that the server listens on.
        ready: Path that answers 200 once the server is ready.
        folder: Working directory of the server.
    """

    def __init__(self, command: list[str], port: int, ready: str, folder: Path = ROOT) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open while the process runs
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT
        )
        end = time.monotonic() + READY_SECONDS
        while not self._answers(ready):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                self._log.seek(0)
                text = self._log.read().decode(errors="replace")
                raise UserError(f"{' '.join(command)} did not start:\n{text[-2000:]}")
            time.sleep(0.1)

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    def latency(self, path: str) -> float:
        """Return the seconds of a request on a new connection from this process.

        It uses http.client because httpx would load certificates first, which is not the server's work.
        """
        started = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5.0)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except OSError as error:
            raise UserError(f"{self.url}{path} did not respond: {error}") from error
        finally:
            connection.close()
        if status != 200:
            raise UserError(f"{self.url}{path} returned status {status}")
        return time.perf_counter() - started

    def memory(self) -> int:
        """Return the resident memory of the server in MiB."""
        return psutil.Process(self.process.pid).memory_info().rss >> 20

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


@contextmanager
def running(*arguments: Any) -> Iterator[Server]:
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.stop()


def load(url: str, images: Path, *options: str) -> dict[str, Any]:
    """Run bench/load.py and return what it prints."""
    command = [sys.executable, str(HERE / "load.py"), url, str(images), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"bench/load.py failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure(server: Server, images: Path, clients: list[int], seconds: float) -> dict[str, Any]:
    """Run closed loops after a warm-up loop."""
    load(server.url, images, "--clients", "2", "--seconds", "2")
    return {
        str(count): load(server.url, images, "--clients", str(count), "--seconds", str(seconds))
        | {"memory_mib": server.memory()}
        for count in clients
    }


def overload(server: Server, images: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Run an open loop beyond what the server can handle, and check its health meanwhile."""
    before = server.memory()
    options = ["--rate", f"{rate:.0f}", "--seconds", f"{seconds:.0f}"]
    command = [sys.executable, str(HERE / "load.py"), server.url, str(images), *options]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    health, memory = [], []
    while client.poll() is None:
        health.append(server.latency("/livez"))
        memory.append(server.memory())
        time.sleep(0.25)
    text, _ = client.communicate()
    after = load(server.url, images, "--clients", "1", "--seconds", "1")
    middle = memory[len(memory) // 4] if memory else before
    return json.loads(text) | {
        "rate": round(rate),
        "livez_ms_max": round(1000 * max(health), 1),
        "memory_mib": {"before": before, "quarter": middle, "end": server.memory()},
        "next_second": after,
    }


def native_command(port: int) -> list[str]:
    own = ROOT / ".venv-serve" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return [python, "-m", "src.serve", "--port", str(port)]


def mlem_command(config: Config, folder: Path, port: int) -> list[str]:
    """Save the original's stack with MLEM and return the command that serves it."""
    binaries = ROOT / ".venv-mlem" / "bin"
    if not (binaries / "mlem").exists():
        raise UserError("MLEM's environment is missing; run `make mlem`")
    trace_seed(config, folder)
    (folder / "original_stack.py").write_bytes((HERE / "original_stack.py").read_bytes())
    packages = sysconfig.get_paths()["purelib"]
    code = (
        "import mlem.api; from original_stack import OriginalStack; "
        f"mlem.api.save(OriginalStack({str(folder)!r}, {packages!r}).predict, 'original')"
    )
    subprocess.run(
        [str(binaries / "python"), "-c", code], cwd=folder, check=True, stdout=sys.stderr
    )
    return [
        str(binaries / "mlem"), "serve", "fastapi", "--model", "original", "--request_serializer",
        "pil_numpy", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--overload", type=float, default=40.0, help="seconds; 0 to skip it")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = with_backgrounds(load_config(ROOT), folder)
        scenes, photographs = write_images(config, folder)
        command = mlem_command(config, folder, options.port + 1)
        print("MLEM with the original project's networks ...", file=sys.stderr)
        with running(command, options.port + 1, "/openapi.json", folder) as server:
            results["mlem"] = measure(server, scenes, options.clients, options.seconds)
        print("native ...", file=sys.stderr)
        with running(native_command(options.port), options.port, "/readyz") as server:
            native = measure(server, scenes, options.clients, options.seconds)
            results["native"] = native
            results["photographs"] = measure(server, photographs, options.clients, options.seconds)
            if options.overload:
                rate = OVERLOAD * max(each["per_second"] for each in native.values())
                print(f"overload, {rate:.0f} requests per second ...", file=sys.stderr)
                results["overload"] = overload(server, scenes, rate, options.overload)
    if options.json:
        print(json.dumps(results))
        return
    show(results, options.clients)


def show(results: dict[str, Any], clients: list[int]) -> None:
    """Print the results as a readable table."""
    print(f"{results['machine']}, Python {results['python']}")
    print(f"{'':12} {'clients':>7} {'200/s':>8} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'lost':>5} "
          f"{'MiB':>6}  statuses")  # fmt: skip
    for name in ("mlem", "native", "photographs"):
        for count in clients:
            row = results[name][str(count)]
            times = row.get("ms", {})
            cells = " ".join(
                f"{times.get(share, float('nan')):8.1f}" for share in ("p50", "p95", "p99")
            )
            print(f"{name:12} {count:7} {row['per_second']:8.1f} {cells} {row['lost']:5} "
                  f"{row['memory_mib']:6}  {row['statuses']}")  # fmt: skip
    for count in clients:
        ratio = (
            results["native"][str(count)]["per_second"] / results["mlem"][str(count)]["per_second"]
        )
        print(f"throughput of native relative to mlem at {count} clients: {ratio:.1f}")
    if "overload" in results:
        print("overload:", json.dumps(results["overload"]))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
