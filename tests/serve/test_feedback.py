"""What the server keeps where it is told to, what people say about it, and that it forgets."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from sqlalchemy import select

from src.flywheel.errors import StoreError
from src.flywheel.store import Store
from src.flywheel.tables import Feedback, Prediction, StoredImage
from src.serve import recorder as module
from src.serve.__main__ import main
from src.serve.settings import Settings
from tests.browsers import SIZES, chromium, opened
from tests.bundles import BLACK, draw_plate, scene, write_bundle
from tests.flywheel.databases import Cluster, capture, cluster
from tests.serving import Process, process, serving, wait_until, write_keys

PNG = cv2.imencode(".png", scene("BE1"))[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("feedback") / "bundle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def client(folder: Path, data: Path) -> Iterator[httpx.Client]:
    with serving(folder, feedback=f"sqlite:///{data}/feedback.db") as found:
        yield found


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    found = Store(f"sqlite:///{data}/feedback.db")
    yield found
    found.close()


def read(client: httpx.Client, content: bytes = PNG, **options: Any) -> dict[str, Any]:
    response = client.post("/v1/read", content=content, **options)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()["results"][0]
    return result


def give(client: httpx.Client, entry: str, **given: Any) -> httpx.Response:
    return client.post("/v1/feedback", json={"id": entry, **given})


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"]


def metric(client: httpx.Client, line: str) -> float:
    for found in client.get("/metrics").text.splitlines():
        if found.startswith(f"{line} "):
            return float(found.split()[-1])
    return 0.0


# Off


def test_nothing_is_kept_by_default(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(folder) as client:
        assert "id" not in read(client)
        answer = client.post("/predict", files={"file": PNG})
        assert answer.json()["plate"] == "BE1"
        assert "x-picture-id" not in answer.headers
        refused = give(client, "0" * 32, verdict="right")
        assert error_of(refused) == (503, "feedback_off")
        # Waiting fixes nothing.
        assert "retry-after" not in refused.headers
        assert error_of(client.delete(f"/v1/feedback/{'0' * 32}")) == (503, "feedback_off")
        page = client.get("/").text
    assert "Nothing is stored." in page
    assert "are stored for" not in page
    assert list(tmp_path.iterdir()) == []


def test_no_database_is_needed_for_that(folder: Path) -> None:
    code = (
        "import sys\nfor name in ('sqlalchemy', 'alembic', 'psycopg'): sys.modules[name] = None\n"
        "from src.serve.server import Server; from src.serve.settings import Settings\n"
        "Server(Settings()); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


# On


def test_what_is_read_is_kept(client: httpx.Client, store: Store) -> None:
    pixels = draw_plate(scene("BE1", (20, 30, 120, 60)), "GE65432", (100, 150, 220, 182), BLACK)
    content = cv2.imencode(".png", pixels)[1].tobytes()
    before = datetime.now(UTC)
    result = read(client, content)
    # It is stored by now, or feedback waits for it.
    assert give(client, result["id"], verdict="right").status_code == 201
    with store.reading() as session:
        image = session.get_one(StoredImage, result["id"])
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        assert image.model == client.get("/v1/model").json()["model"]
        assert before <= image.created <= datetime.now(UTC)
        assert len(image.predictions) == len(result["plates"]) == 2
        for stored, answered in zip(image.predictions, result["plates"], strict=True):
            assert stored.text == answered["plate"]
            assert stored.confidence == pytest.approx(answered["confidence"], abs=1e-4)
            assert np.array(stored.corners) == pytest.approx(
                np.array(answered["corners"]), abs=0.01
            )
            assert store.images.path(stored.crop).exists()
        kept = cv2.imread(str(store.images.path(image.file)), cv2.IMREAD_GRAYSCALE)
    assert kept.shape == pixels.shape
    assert np.abs(kept.astype(int) - pixels).mean() < 3


def test_predict_keeps_too(client: httpx.Client, store: Store) -> None:
    response = client.post("/predict", files={"file": PNG})
    assert set(response.json()) == {"plate", "canton", "number", "confidence"}
    entry = response.headers["x-picture-id"]
    assert give(client, entry, plate=0, verdict="right").status_code == 201


def test_what_cannot_be_read_is_not_kept(client: httpx.Client) -> None:
    files = [("files", ("a.png", b"no image")), ("files", ("b.png", PNG))]
    bad, good = client.post("/v1/read", files=files).json()["results"]
    assert "id" not in bad
    assert good["id"]


def test_feedback_is_answered_as_it_is_stored(client: httpx.Client, store: Store) -> None:
    result = read(client)
    corners = [[61, 101], [181.5, 101], [181.5, 133], [61, 133]]
    response = give(
        client, result["id"], plate=0, verdict="wrong", text="zh 12·3", corners=corners, lines=2
    )
    assert response.status_code == 201
    answer = response.json()
    created = datetime.fromisoformat(answer.pop("created"))
    assert created.utcoffset() == timedelta(0)
    assert answer == {"id": result["id"], "plate": 0, "verdict": "wrong", "text": "ZH123",
                      "corners": corners, "lines": 2}  # fmt: skip
    give(client, result["id"], verdict="missed", text="AG10")
    with store.reading() as session:
        first, second = session.scalars(
            select(Feedback).where(Feedback.picture_id == result["id"]).order_by(Feedback.number)
        )
        assert (first.plate, first.verdict, first.text, first.lines) == (0, "wrong", "ZH123", 2)
        assert (first.corners, first.created) == (corners, created)
        assert (second.plate, second.verdict, second.text) == (None, "missed", "AG10")


@pytest.mark.parametrize(
    ("given", "wanted", "says"),
    [
        ({"plate": 0, "verdict": "wrong", "text": "XX1"}, (422, "invalid_feedback"), "ZH123456"),
        ({"plate": 0, "verdict": "wrong", "text": ""}, (422, "invalid_feedback"), "ZH123456"),
        ({"plate": 0, "verdict": "wrong", "text": "Z" * 33}, (422, "invalid_feedback"), "text"),
        ({"plate": 0, "verdict": "right", "text": "ZH1"}, (422, "invalid_feedback"), "right"),
        ({"plate": 0, "verdict": "missed"}, (422, "invalid_feedback"), "missed"),
        ({"verdict": "wrong"}, (422, "invalid_feedback"), "plate"),
        ({"plate": 0, "verdict": "maybe"}, (422, "invalid_feedback"), "verdict"),
        ({"plate": 0}, (422, "invalid_feedback"), "verdict"),
        ({"plate": "0", "verdict": "right"}, (422, "invalid_feedback"), "plate"),
        ({"plate": True, "verdict": "right"}, (422, "invalid_feedback"), "plate"),
        ({"plate": -1, "verdict": "right"}, (422, "invalid_feedback"), "plate"),
        ({"plate": 0, "verdict": "right", "x": 1}, (422, "invalid_feedback"), "x"),
        ({"plate": 0, "verdict": "wrong", "lines": 3}, (422, "invalid_feedback"), "lines"),
        ({"plate": 0, "verdict": "wrong", "corners": [[0, 0]] * 4}, (422, "invalid_feedback"), "clockwise"),
        ({"plate": 0, "verdict": "wrong", "corners": [[0, 0]] * 3}, (422, "invalid_feedback"), "corners"),
        ({"plate": 1, "verdict": "right"}, (404, "unknown_id"), "no plate 1"),
        ({"id": "0" * 32, "verdict": "right"}, (404, "unknown_id"), "there is no image"),
        ({"id": "x\0'; --", "verdict": "right"}, (404, "unknown_id"), "there is no image"),
    ],
)  # fmt: skip
def test_feedback_that_is_refused(
    client: httpx.Client, given: dict[str, Any], wanted: tuple[int, str], says: str
) -> None:
    response = client.post("/v1/feedback", json={"id": read(client)["id"], **given})
    assert error_of(response) == wanted
    assert says in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "wanted"),
    [
        (b"{", "application/json", (400, "bad_json")),
        (b"", "application/json", (400, "bad_json")),
        (b"[]", "application/json", (422, "invalid_feedback")),
        (b"\xff\xfe", "application/json", (400, "bad_json")),
        (b'{"id": "x", "verdict": "wrong", "plate": 0, "corners": [[NaN, 1]]}', "application/json",
         (422, "invalid_feedback")),
        (b"{}", "text/plain", (415, "unsupported_media_type")),
        (b"id=1", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (b" " * 20_000, "application/json", (413, "body_too_large")),
    ],
)  # fmt: skip
def test_bodies_that_hold_no_feedback(
    client: httpx.Client, content: bytes, kind: str, wanted: tuple[int, str]
) -> None:
    response = client.post("/v1/feedback", content=content, headers={"Content-Type": kind})
    assert error_of(response) == wanted


def test_a_body_of_feedback_without_a_length_is_counted(client: httpx.Client) -> None:
    parts = (b" " * 4096 for _ in range(10))
    response = client.post(
        "/v1/feedback", content=parts, headers={"Content-Type": "application/json"}
    )
    assert error_of(response) == (413, "body_too_large")


def test_one_entry_is_deleted(client: httpx.Client, store: Store) -> None:
    content = cv2.imencode(".png", scene("TI1234567"))[1].tobytes()
    entry, other = read(client, content)["id"], read(client)["id"]
    give(client, entry, plate=0, verdict="right")
    give(client, other, plate=0, verdict="right")
    with store.reading() as session:
        image = session.get_one(StoredImage, entry)
        names = [image.file, image.predictions[0].crop]
    assert all(store.images.path(name).exists() for name in names)
    response = client.delete(f"/v1/feedback/{entry}")
    assert (response.status_code, response.content) == (204, b"")
    assert not any(store.images.path(name).exists() for name in names)
    with store.reading() as session:
        assert session.get(StoredImage, entry) is None
        assert session.scalars(select(Feedback).where(Feedback.picture_id == entry)).all() == []
        assert session.get(StoredImage, other) is not None
    assert error_of(client.delete(f"/v1/feedback/{entry}")) == (404, "unknown_id")
    assert error_of(give(client, entry, verdict="right")) == (404, "unknown_id")


def test_an_image_is_deleted_that_was_not_yet_stored(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Store.save
    monkeypatch.setattr(Store, "save", lambda *a: (time.sleep(0.3), save(*a))[1])
    entry = read(client)["id"]
    assert client.delete(f"/v1/feedback/{entry}").status_code == 204
    with store.reading() as session:
        assert session.get(StoredImage, entry) is None


def test_the_page_says_how_long(client: httpx.Client, folder: Path, tmp_path: Path) -> None:
    page = client.get("/")
    assert "Images and readings are stored for 90 days." in page.text
    assert "Nothing is stored" not in page.text
    assert page.headers["cache-control"] == "no-cache"
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db", feedback_days=1) as other:
        assert "are stored for 1 day." in other.get("/").text


def test_keys_are_asked_for(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(
        folder, feedback=url, api_keys=write_keys(tmp_path / "keys", "open-sesame")
    ) as client:
        headers = {"X-API-Key": "open-sesame"}
        entry = read(client, headers=headers)["id"]
        assert error_of(give(client, entry, verdict="right")) == (401, "unauthorized")
        assert error_of(client.delete(f"/v1/feedback/{entry}")) == (401, "unauthorized")
        client.headers.update(headers)
        assert give(client, entry, verdict="right").status_code == 201
        assert client.delete(f"/v1/feedback/{entry}").status_code == 204


def test_senders_have_a_rate(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(folder, feedback=url, rate=0.001, burst=2) as client:
        entry = read(client)["id"]
        assert give(client, entry, verdict="right").status_code == 201
        assert error_of(give(client, entry, verdict="right")) == (429, "rate_limited")


def test_a_server_that_is_stopping_takes_no_feedback(client: httpx.Client) -> None:
    engine = client.server.engine  # type: ignore[attr-defined]
    engine.is_draining = True
    try:
        assert error_of(give(client, "0" * 32, verdict="right")) == (503, "draining")
    finally:
        engine.is_draining = False


def test_metrics_and_the_log_keep_texts_and_ids_to_themselves(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    before = metric(client, 'plates_feedback_total{verdict="wrong"}')
    entry = read(client)["id"]
    give(client, entry, plate=0, verdict="wrong", text="TI7654321")
    give(client, entry, plate=0, verdict="wrong", text="TI76543210")
    client.delete(f"/v1/feedback/{entry}")
    assert metric(client, 'plates_feedback_total{verdict="wrong"}') == before + 1
    assert metric(client, 'plates_captures_total{outcome="kept"}') >= 1
    for path, status in (("/v1/feedback", 201), ("/v1/feedback", 422), ("/v1/feedback/{id}", 204)):
        line = f'plates_request_seconds_count{{route="{path}",status="{status}"}}'
        assert metric(client, line) >= 1, line
    text = client.get("/metrics").text
    # Of the client, and of what only pytest switches on.
    others = ("http", "uvicorn.access")
    own = "".join(r.getMessage() for r in caplog.records if not r.name.startswith(others))
    assert "/v1/feedback/{id}" in own
    for secret in ("7654321", entry):
        assert secret not in text
        assert secret not in own


def test_openapi_describes_feedback(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    body = paths["/v1/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["id", "verdict"]
    assert set(paths["/v1/feedback"]["post"]["responses"]) >= {"201", "404", "422", "503"}
    assert "204" in paths["/v1/feedback/{image}"]["delete"]["responses"]


# A store that fails


def test_a_store_that_fails_fails_no_reading(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.3)
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        entry = read(client)["id"]
        assert give(client, entry, verdict="right").status_code == 201
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise StoreError("f.db: database or disk is full. Free some space.")

            patch.setattr(Store, "save", fail)
            patch.setattr(Store, "add_feedback", fail)
            promised = [read(client)["id"]]
            for _ in range(2):
                wait_until(lambda: "id" not in read(client))
                assert error_of(give(client, entry, verdict="right")) == (503, "store_failed")
                time.sleep(0.4)
            assert metric(client, 'plates_captures_total{outcome="failed"}') >= 2
            assert client.post("/predict", files={"file": PNG}).json()["plate"] == "BE1"
        # Told once for each kind.
        assert caplog.text.count("database or disk is full") == 2
        wait_until(lambda: "id" in read(client))
        # What had an id is stored once that is possible.
        for each in (entry, *promised):
            assert give(client, each, verdict="right").status_code == 201


def test_a_store_that_fails_again_later_is_logged_again(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("not now")

    monkeypatch.setattr(module, "_LOG_S", 0.2)
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        entry = read(client)["id"]
        assert give(client, entry, verdict="right").status_code == 201
        monkeypatch.setattr(Store, "add_feedback", fail)
        for count in (1, 2):
            assert error_of(give(client, entry, verdict="right")) == (503, "store_failed")
            assert caplog.text.count("not now") == count
            time.sleep(0.3)


def test_a_store_that_fails_for_long_loses_images_in_the_end(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "_ATTEMPTS", 3)
    attempts = []

    def fail(_: object, captures: list[Any]) -> None:
        attempts.append(captures)
        raise StoreError("not now")

    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save", fail)
            lost = read(client)["id"]
            wait_until(lambda: "1 images are lost" in caplog.text)
        assert len(attempts) == 3
        assert error_of(give(client, lost, verdict="right")) == (404, "unknown_id")
        wait_until(lambda: "id" in read(client))


def test_a_fault_does_not_end_the_keeping(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save", lambda *_: 1 / 0)
            lost = read(client)["id"]
            assert error_of(give(client, lost, verdict="right")) == (404, "unknown_id")
        assert give(client, read(client)["id"], verdict="right").status_code == 201


def test_a_full_store_keeps_no_more(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(folder, feedback=url, max_feedback_mib=0.001) as client:
        entry = read(client)["id"]
        assert give(client, entry, verdict="right").status_code == 201
        read(client)
        wait_until(lambda: "id" not in read(client))
        assert metric(client, 'plates_captures_total{outcome="store_full"}') >= 2
        assert "--max-feedback-mib" in caplog.text
        # What is there may be spoken of, and deleted.
        assert give(client, entry, verdict="right").status_code == 201
        assert client.delete(f"/v1/feedback/{entry}").status_code == 204


def test_what_comes_faster_than_it_can_be_stored_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAITING", 2)
    gate = threading.Event()
    save = Store.save
    sizes = []

    def slow(store: Store, captures: list[Any]) -> set[str]:
        sizes.append(len(captures))
        gate.wait(20)
        return save(store, captures)

    monkeypatch.setattr(Store, "save", slow)
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        ids = [read(client)["id"]]
        wait_until(lambda: sizes)
        ids += [read(client).get("id") for _ in range(5)]
        assert [each is not None for each in ids] == [True, True, True, False, False, False]
        assert metric(client, 'plates_captures_total{outcome="queue_full"}') == 3
        gate.set()
        for entry in ids[:3]:
            assert give(client, entry, verdict="right").status_code == 201
        # What waits together is stored together.
        assert sizes == [1, 2]
        assert "id" in read(client)


def test_images_that_wait_are_bounded_in_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAITING_BYTES", len(PNG) - 1)
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db") as client:
        assert "id" not in read(client)


def test_feedback_waits_no_longer_than_the_deadline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(folder, feedback=url, deadline_s=1.0) as client:
        entry = read(client)["id"]
        monkeypatch.setattr(Store, "add_feedback", lambda *_: gate.wait(20))
        assert error_of(give(client, entry, verdict="right")) == (503, "deadline")
        # Readings go on meanwhile.
        assert read(client)["plates"]
        gate.set()


# Its start, its time, its end


def test_a_damaged_database_ends_it(folder: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "f.db").write_bytes(b"no database" * 1000)
    assert main(["--model", str(folder), "--feedback", f"sqlite:///{tmp_path}/f.db"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/f.db: ")
    assert "damaged" in said


def test_a_database_that_is_not_there_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLATES_FEEDBACK", "postgresql://reader:hunter2@127.0.0.1:1/plates")
    monkeypatch.setenv("PLATES_FEEDBACK_PICTURES", str(tmp_path / "pictures"))
    assert main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: postgresql://127.0.0.1:1/plates: ")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--feedbck", "postgresql://reader:hunter2@host/plates"],
        ["--port", "postgresql://reader:hunter2@host/plates"],
        ["--feedback", "postgresql://reader:hunter2@host/plates", "--feedback-days", "0"],
        ["--feedback", "postgresql://reader:hunter2@host/plates"],
        ["--feedback", "mysql://reader:hunter2@host/plates"],
    ],
)
def test_no_mistake_tells_the_password(arguments: list[str], capsys: Any) -> None:
    try:
        status = main(arguments)
    except SystemExit as error:
        status = int(str(error.code))
    assert status != 0
    said = "".join(capsys.readouterr())
    assert "error: " in said
    assert "hunter2" not in said


def test_settings_do_not_show_the_password() -> None:
    settings = Settings(feedback="postgresql://reader:hunter2@host/plates")
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert settings.feedback_url == "postgresql://reader:hunter2@host/plates"
    assert Settings(feedback="").feedback_url is None
    assert Settings().feedback_url is None


def test_what_is_too_old_is_deleted(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/f.db"
    store = Store(url)
    now = datetime.now(UTC)
    old, young = (capture(created=now - timedelta(days=days)) for days in (8, 6))
    store.save([old, young])

    def entries() -> list[str]:
        with store.reading() as session:
            return list(session.scalars(select(StoredImage.id)))

    with serving(folder, feedback=url, feedback_days=7):
        wait_until(lambda: entries() == [young.id])
    store.close()


def test_old_images_are_looked_for_again_and_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[datetime] = []

    def purge(_: Store, now: datetime) -> int:
        calls.append(now)
        if len(calls) == 1:
            raise StoreError("not now")
        if len(calls) == 2:
            raise RuntimeError("a fault")
        return 0

    monkeypatch.setattr(module, "_PURGE_S", 0.05)
    monkeypatch.setattr(Store, "purge", purge)
    with serving(folder, feedback=f"sqlite:///{tmp_path}/f.db"):
        wait_until(lambda: len(calls) > 3)
    assert calls == sorted(calls)


def test_what_waits_is_stored_before_the_end(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Store.save
    monkeypatch.setattr(Store, "save", lambda *a: (time.sleep(0.3), save(*a))[1])
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(folder, feedback=url) as client:
        ids = {read(client)["id"] for _ in range(5)}
    store = Store(url)
    with store.reading() as session:
        assert set(session.scalars(select(StoredImage.id))) == ids
    store.close()


# Killed under load


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


@pytest.mark.slow
def test_a_database_that_goes_and_comes_back(
    folder: Path,
    tmp_path: Path,
    postgres: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setattr(module, "_PAUSE_S", 0.5)
    url = postgres.new_url().replace("postgres@", "postgres:hunter2@")
    with serving(folder, feedback=url, feedback_pictures=tmp_path / "pictures") as client:
        entry = read(client)["id"]
        assert give(client, entry, verdict="right").status_code == 201
        postgres.kill()
        refused = give(client, entry, verdict="right")
        assert error_of(refused) == (503, "store_failed")
        read(client)
        wait_until(lambda: "id" not in read(client))
        postgres.start()
        wait_until(lambda: give(client, entry, verdict="right").status_code == 201)
        wait_until(lambda: "id" in read(client))
        answers = [
            client.get(path).text for path in ("/v1/model", "/metrics", "/", "/openapi.json")
        ]
    assert "connection" in caplog.text
    assert "hunter2" not in "".join((refused.text, caplog.text, *answers))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_feedback_that_was_answered_survives_a_kill(
    folder: Path, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    server_of_database: Cluster | None = None
    url = f"sqlite:///{tmp_path}/f.db"
    if database == "postgresql":
        server_of_database = request.getfixturevalue("postgres")
        url = server_of_database.new_url()
    options = ("--model", str(folder), "--feedback", url,
               "--feedback-pictures", str(tmp_path / "pictures"))  # fmt: skip
    answered: list[tuple[str, str]] = []
    for number in range(3):
        with process(*options) as server:

            def kill(server: Process = server, with_database: bool = number == 2) -> None:
                if server_of_database is not None and with_database:
                    server_of_database.kill()
                server.signal(signal.SIGKILL)
                server.process.wait(20)

            _load(server.url, kill, answered, number)
    if server_of_database is not None:
        server_of_database.start()
    store = Store(url, tmp_path / "pictures")
    with store.reading() as session:
        found = {
            (picture_id, text)
            for picture_id, text in session.execute(select(Feedback.picture_id, Feedback.text))
        }
        named = {
            *session.scalars(select(StoredImage.file)),
            *session.scalars(select(Prediction.crop)),
        }
    assert len(answered) >= 150
    assert set(answered) <= found
    # Every image is there as well; what no row names goes.
    assert all(cv2.imread(str(store.images.path(name))) is not None for name in named)
    store.purge(datetime.now(UTC))
    assert set(store.images.names()) == named
    store.close()


def _load(url: str, kill: Callable[[], None], answered: list[tuple[str, str]], number: int) -> None:
    """Many who read and give feedback, until all is killed in the midst of it."""
    enough = len(answered) + 50
    is_over = threading.Event()

    def work(worker: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for turn in range(100_000):
                if is_over.is_set():
                    return
                text = f"ZH{number + 1}{worker}{turn:04}"
                try:
                    entry = read(client).get("id", "")
                    response = give(client, entry, plate=0, verdict="wrong", text=text)
                except httpx.TransportError:
                    return
                if response.status_code == 201:
                    answered.append((entry, text))

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(work, worker) for worker in range(6)]
        try:
            wait_until(lambda: len(answered) >= enough, 100)
            kill()
        finally:
            is_over.set()
        for each in done:
            each.result()


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Any, client: httpx.Client) -> Iterator[Any]:
    with opened(browser, str(client.base_url), request.param) as page:
        yield page


def latest(store: Store) -> list[tuple[int | None, str, str | None]]:
    """Feedback on the image that was read last."""
    with store.reading() as session:
        entry = session.scalars(select(StoredImage.id).order_by(StoredImage.created.desc())).first()
        found = session.scalars(
            select(Feedback).where(Feedback.picture_id == entry).order_by(Feedback.number)
        )
        return [(each.plate, each.verdict, each.text) for each in found]


slow_page = [pytest.mark.slow, pytest.mark.timeout(180)]


class TestPage:
    """In a real browser."""

    pytestmark = slow_page

    def test_feedback_on_each_plate(self, page: Any, store: Store, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        pixels = draw_plate(scene("BE1", (20, 30, 120, 60)), "GE65432", (100, 150, 220, 182), BLACK)
        cv2.imwrite(str(tmp_path / "two.png"), pixels)
        expect(page.locator("#kept")).to_have_text(
            "Images and readings are stored for 90 days. Clips are not stored."
        )
        page.set_input_files("#pick", tmp_path / "two.png")
        forms = page.locator(".feedback")
        expect(forms).to_have_count(2)
        first, second = forms.nth(0), forms.nth(1)
        read = page.locator(".result .text").nth(1).get_attribute("aria-label").replace(" ", "")
        expect(second).to_have_attribute("aria-label", f"Feedback on {read}")
        first.get_by_role("button", name="Right").click()
        expect(first.locator(".said")).to_have_text("Thank you. Stored.")
        expect(first.get_by_role("button", name="Right")).to_have_attribute("aria-pressed", "true")
        assert latest(store) == [(0, "right", None)]
        # By the keyboard alone; a text that is none is told.
        field = second.get_by_label("Correct text, if the reading is wrong")
        field.focus()
        page.keyboard.type("xx 12")
        page.keyboard.press("Enter")
        expect(second.locator(".said")).to_contain_text("Not stored: 'XX12' is not a valid plate")
        field.fill("")
        field.focus()
        page.keyboard.type("zh 98 765")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Wrong"
        page.keyboard.press("Enter")
        expect(second.locator(".said")).to_have_text("Thank you. Stored as ZH98765.")
        # Another time, without a text: the latest counts.
        field.fill("")
        second.get_by_role("button", name="Wrong").click()
        expect(second.locator(".said")).to_have_text("Thank you. Stored.")
        assert latest(store)[1:] == [(1, "wrong", "ZH98765"), (1, "wrong", None)]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def test_feedback_on_the_image(self, page: Any, store: Store, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 300), 120, np.uint8))
        page.set_input_files("#pick", tmp_path / "empty.png")
        about = page.get_by_role("group", name="The whole image")
        about.get_by_role("button", name="No plate was missed").click()
        expect(about.locator(".said")).to_have_text("Thank you. Stored.")
        assert latest(store) == [(None, "right", None)]
        about.get_by_role("button", name="A plate was missed").click()
        pressed = about.locator("[aria-pressed=true]")
        expect(pressed).to_have_text("A plate was missed")
        assert latest(store) == [(None, "right", None), (None, "missed", None)]

    def test_an_image_can_be_deleted(self, page: Any, store: Store, tmp_path: Path) -> None:
        from playwright.sync_api import expect

        (tmp_path / "x.png").write_bytes(PNG)
        page.set_input_files("#pick", tmp_path / "x.png")
        about = page.get_by_role("group", name="The whole image")
        about.get_by_role("button", name="No plate was missed").click()
        expect(about.locator(".said")).to_have_text("Thank you. Stored.")
        with store.reading() as session:
            before = set(session.scalars(select(StoredImage.id)))
        about.get_by_role("button", name="Delete").click()
        expect(about.locator(".said")).to_contain_text("has deleted the image")
        expect(page.locator(".feedback")).to_be_hidden()
        expect(about.get_by_role("button", name="Delete")).to_be_hidden()
        with store.reading() as session:
            after = set(session.scalars(select(StoredImage.id)))
        assert len(before - after) == 1

    def test_where_nothing_is_kept_nothing_is_asked(
        self, browser: Any, folder: Path, tmp_path: Path
    ) -> None:
        from playwright.sync_api import expect

        (tmp_path / "x.png").write_bytes(PNG)
        with serving(folder) as client:
            page = browser.new_page()
            page.goto(str(client.base_url))
            expect(page.locator("#kept")).to_have_text("Nothing is stored.")
            page.set_input_files("#pick", tmp_path / "x.png")
            expect(page.locator(".plate")).to_have_count(1)
            expect(page.locator(".feedback")).to_be_hidden()
            expect(page.locator(".about")).to_be_hidden()
            page.close()
