"""Load test of a plate reader server, run in a separate process.

    python bench/load.py URL PICTURES [--clients 8 | --rate 500] [--seconds 10]

With --clients, each client sends an image, waits for the response, and sends the next one (a closed
loop). With --rate, requests start at random times at this mean rate, whether or not earlier ones have
been answered (an open loop, in which a slow server gets the same load as a fast one). Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections import Counter
from pathlib import Path

import aiohttp
import numpy as np

PATIENCE = 30.0
"""Seconds after which an unanswered request counts as lost."""

_BOUNDARY = "picture-of-a-plate"
_HEADERS = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


def _form(image: bytes) -> bytes:
    """Return a form with an image in the field ``file``."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()


class Load:
    """Send requests and record their outcomes.

    Args:
        url: URL of POST /predict.
        images: Contents of image files, which are sent in turn.
    """

    def __init__(self, url: str, images: list[bytes]) -> None:
        self._url = url
        # Encoded once: the client shares the machine with the server, and its work must not be measured.
        self._forms = itertools.cycle([_form(image) for image in images])
        self.answers: list[tuple[int, float]] = []
        """Status and seconds of each request; the status of a lost request is 0."""

    async def ask(self, session: aiohttp.ClientSession) -> int:
        started = time.perf_counter()
        try:
            async with session.post(
                self._url, data=next(self._forms), headers=_HEADERS
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.answers.append((status, time.perf_counter() - started))
        return status

    async def closed(self, session: aiohttp.ClientSession, clients: int, seconds: float) -> None:
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                if await self.ask(session) == 503:
                    # Wait, as the server asks: a client that retries at once measures only itself.
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, session: aiohttp.ClientSession, rate: float, seconds: float) -> None:
        randoms = random.Random(0)  # noqa: S311
        tasks = []
        at, end = 0.0, seconds
        started = time.perf_counter()
        while at < end:
            await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask(session)))
            at += randoms.expovariate(rate)
        await asyncio.gather(*tasks)


def summary(answers: list[tuple[int, float]], seconds: float) -> dict[str, object]:
    """Return the throughput of answers with status 200, latencies in milliseconds, counts by status."""
    counts = Counter(status for status, _ in answers)
    good = np.array([taken for status, taken in answers if status == 200]) * 1000
    refused = np.array([taken for status, taken in answers if status == 503]) * 1000
    result: dict[str, object] = {
        "per_second": round(len(good) / seconds, 1),
        "lost": counts.pop(0, 0),
        "statuses": {str(status): count for status, count in sorted(counts.items())},
    }
    for name, times in (("ms", good), ("refused_ms", refused)):
        if len(times):
            shares = np.percentile(times, [50, 95, 99]).round(1).tolist()
            result[name] = dict(zip(("p50", "p95", "p99"), shares, strict=True))
    return result


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("url")
    parser.add_argument("images", type=Path, help="folder of JPEG files")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rate", type=float, help="requests per second in an open loop")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    images = [path.read_bytes() for path in sorted(options.images.glob("*.jpg"))]
    load = Load(f"{options.url}/predict", images)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        started = time.perf_counter()
        if options.rate:
            await load.open(session, options.rate, options.seconds)
        else:
            await load.closed(session, options.clients, options.seconds)
        taken = time.perf_counter() - started
    print(json.dumps(summary(load.answers, taken)))


if __name__ == "__main__":
    asyncio.run(main())
