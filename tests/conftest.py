"""A workspace in miniature: the parameters and two prepared sets that a network can learn."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from src.core.charset import CANTONS
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box
from src.core.random import Draws
from src.datasets.shards import NewSet, Shard, write_sets

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = ROOT / "tests" / "parameters"
"""Folder of the params.py and params.yaml of the tests: those of the workspace change with each run."""

# `make test` hands these on: what tests call with make would take its options, and tell where it is.
for _variable in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
    os.environ.pop(_variable, None)

# Under nohup, cron and some CI runners SIGINT is ignored, which every command that tests start would
# inherit: what Ctrl-C does could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LONGEST = (
    "tests/test_pipeline.py",
    "tests/watch/test_watch.py",
    "tests/scripts/test_transfer.py",
    "tests/training/test_fit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one at the end."""
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.split("::")[0], len(order)))


TINY_PARAMS: dict[str, Any] = {
    "BATCH_SIZE": 16,
    "LocalizeModelParams.PLATE_NET_CHANNELS": [8] * 8,
    "OCRModelParams.CRNN_CHANNELS": [8] * 8,
    "OCRModelParams.CRNN_HIDDEN_SIZE": 16,
    "OCRModelParams.CRNN_NUM_LAYERS": 1,
    "TrainLocalizeParams.EPOCHS": 2,
    "TrainLocalizeParams.VALIDATE_EVERY": 3,
    "TrainOCRParams.EPOCHS": 2,
    "TrainOCRParams.VALIDATE_EVERY": 3,
}


def set_params(folder: Path, values: dict[str, Any]) -> None:
    """Change values of a workspace's params.py, by ``Class.NAME`` or ``NAME``."""
    path = folder / "params.py"
    text = path.read_text()
    for name, value in values.items():
        *section, key = name.split(".")
        start = text.index(f"class {section[0]}:") if section else 0
        changed = re.sub(
            rf"^(\s*{key}: \w+ = ).*$",
            rf"\g<1>{value!r}",
            text[start:],
            count=1,
            flags=re.MULTILINE,
        )
        assert changed != text[start:] or f" = {value!r}" in text[start:]
        text = text[:start] + changed
    path.write_text(text)


def set_texts(folder: Path, old: str, new: str) -> None:
    """Change a line of a workspace's params.yaml."""
    path = folder / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drawn_plate(texts: list[str], corners: np.ndarray, size: int, draws: Draws) -> Shard:
    """White quadrilaterals ``(n, 4, 2)`` with black text on dark noise of ``size`` pixels."""
    images = []
    noise = draws.uniform(0, 90, (size, size)).astype(np.uint8)
    plate_corners = np.array([[0, 0], [128, 0], [128, 32], [0, 32]], dtype=np.float32)
    for text, quad, image in zip(texts, corners.astype(np.float32), noise, strict=True):
        plate = np.full((32, 128), 235, dtype=np.uint8)
        cv2.putText(plate, text, (6, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 10, 2)
        matrix = cv2.getPerspectiveTransform(plate_corners, quad)
        cv2.warpPerspective(
            plate, matrix, (size, size), image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT
        )
        images.append(image)
    normalised = corners / size
    labels = pd.DataFrame({"plate": texts, "format": "front", "colour": "white", "lines": 1})
    labels["present"] = True
    labels[BOX_COLUMNS] = corners_to_box(normalised)
    labels[CORNER_COLUMNS] = normalised.reshape(-1, 8)
    return Shard(images, labels)


def drawn_quads(draws: Draws, size: int, low: float) -> np.ndarray:
    """``(n, 4, 2)`` slightly turned plates of ``low`` to 0.9 of ``size`` pixels."""
    length = draws.uniform(low, 0.9) * size
    angle = draws.uniform(-0.15, 0.15)
    along = np.stack([np.cos(angle), np.sin(angle)], -1) * length[:, None] / 2
    across = np.stack([-along[:, 1], along[:, 0]], -1) / 4
    free = (size - length) / 2
    centre = size / 2 + draws.uniform(-1, 1, (2,)) * free[:, None] * 0.9
    return np.stack(
        [centre - along - across, centre + along - across, centre + along + across,
         centre - along + across], axis=1,
    )  # fmt: skip


def make_localize(indices: range) -> Shard:
    draws = Draws(1, "localize", np.asarray(indices))
    return drawn_plate(["ZH1"] * len(draws), drawn_quads(draws, 84, 0.4), 84, draws)


def make_ocr(indices: range) -> Shard:
    draws = Draws(1, "ocr", np.asarray(indices))
    cantons, numbers = draws.integers(0, 25), draws.integers(1, 999)
    texts = [f"{CANTONS[c]}{n}" for c, n in zip(cantons, numbers, strict=True)]
    return drawn_plate(texts, drawn_quads(draws, 140, 0.8), 140, draws)


@pytest.fixture(scope="session")
def _workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, folder / name)
    set_params(folder, TINY_PARAMS)
    makers: dict[str, Callable[[range], Shard]] = {"localize": make_localize, "ocr": make_ocr}
    for task, make in makers.items():
        prepared = folder / "data" / "prepared" / task
        splits = {"train": range(60), "val": range(60, 85)}
        write_sets([NewSet(prepared / split, part, make, {}) for split, part in splits.items()])
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Tiny networks on many threads wait for each other, most of all where tests run side by side.
    torch.set_num_threads(1)


@pytest.fixture
def tiny_workspace(_workspace: Path, tmp_path: Path) -> Path:
    """A folder with small parameters and prepared sets of 60 and 25 samples; not the current one."""
    folder = tmp_path / "workspace"
    shutil.copytree(_workspace, folder)
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, dict[str, str]]]:
    """URL of an S3 server, and its user's keys. Only one in a process: moto's users are global."""
    import boto3
    from moto import settings
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    iam = boto3.client(
        "iam", endpoint_url=url, region_name="us-east-1",
        aws_access_key_id="any", aws_secret_access_key="any",  # noqa: S106  # it takes any yet
    )  # fmt: skip
    iam.create_user(UserName="pusher")
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="pusher", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="pusher")["AccessKey"]
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    # From here on it looks at keys and signatures; by default it takes any.
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    yield (
        url,
        {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    )
    settings.INITIAL_NO_AUTH_ACTION_COUNT = before
    server.stop()
