"""The routes, over HTTP."""

from __future__ import annotations

import gc
import gzip
import io
import json
import re
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.inference.reader import PlateReader
from src.serve.engine import Engine
from src.serve.uploads import _extended_name
from tests.bundles import BLACK, TEXTS, UNSURE, draw_plate, scene, write_bundle
from tests.serving import serving, wait_until, write_keys


def encoded(pixels: NDArray[np.uint8], suffix: str = ".png") -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    return content.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("serve") / "bundle")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with serving(
        folder, max_body_mib=1, max_files=3, max_pixels=2_000_000, max_side=3000
    ) as client:
        yield client


def predict(client: httpx.Client, content: bytes, **settings: Any) -> httpx.Response:
    return client.post("/predict", files={"file": ("x.jpg", content, "image/jpeg")}, **settings)


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"], error["limit"]


def test_predict_gives_the_best_plate(client: httpx.Client) -> None:
    response = predict(client, encoded(scene("GE65432")))
    assert response.status_code == 200
    answer = response.json()
    assert answer.pop("confidence") > 0.9
    assert answer == {"plate": "GE65432", "canton": "GE", "number": "65432"}


def test_predict_gives_nulls_where_there_is_no_plate(client: httpx.Client) -> None:
    response = predict(client, encoded(np.full((200, 300), 120, np.uint8)))
    assert response.status_code == 200
    assert response.json() == {"plate": None, "canton": None, "number": None, "confidence": None}


def test_read_gives_what_the_reader_gives(client: httpx.Client, folder: Path) -> None:
    pixels = draw_plate(scene("BE1", (20, 30, 120, 60)), "GE65432", (100, 150, 220, 182), BLACK)
    content = encoded(pixels)
    response = client.post("/v1/read", files=[("files", ("two.png", content))])
    assert response.status_code == 200
    (result,) = response.json()["results"]
    assert (result["name"], result["width"], result["height"]) == ("two.png", 256, 256)
    assert set(result["timings"]) == {"queue_ms", "compute_ms"}
    assert "error" not in result
    wanted = PlateReader.load(folder).read(content)
    assert len(result["plates"]) == len(wanted) == 2
    for found, plate in zip(result["plates"], wanted, strict=True):
        assert found["plate"] == plate.plate
        assert found["lines"] == plate.lines
        assert found["confidence"] == pytest.approx(plate.confidence, abs=1e-4)
        assert found["char_confidences"] == pytest.approx(plate.char_confidences, abs=1e-4)
        assert found["box"] == pytest.approx(plate.box, abs=0.01)
        assert np.array(found["corners"]) == pytest.approx(np.array(plate.corners), abs=0.01)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "image/anything", None])
def test_read_takes_an_image_as_the_body(client: httpx.Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = client.post("/v1/read", content=encoded(scene("BE1")), headers=headers)
    assert response.status_code == 200
    assert [plate["plate"] for plate in response.json()["results"][0]["plates"]] == ["BE1"]


def test_several_files_are_answered_in_their_order(client: httpx.Client) -> None:
    texts = ["ZH123456", "BE1", "TI1234567"]
    files = [("files", (f"{text}.png", encoded(scene(text)))) for text in texts]
    results = client.post("/v1/read", files=files).json()["results"]
    assert [result["plates"][0]["plate"] for result in results] == texts
    assert [result["name"] for result in results] == [f"{text}.png" for text in texts]


def test_one_bad_file_does_not_spoil_the_others(client: httpx.Client) -> None:
    files = [("files", ("a.png", b"no image")), ("files", ("b.png", encoded(scene("BE1"))))]
    response = client.post("/v1/read", files=files)
    assert response.status_code == 200
    bad, good = response.json()["results"]
    assert bad["error"]["code"] == "unsupported_format"
    assert "plates" not in bad
    assert good["plates"][0]["plate"] == "BE1"


# Formats


def saved(kind: str, **options: Any) -> bytes:
    image = Image.fromarray(scene("GE65432", size=(200, 300)))
    file = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(file, quality=90)
    else:
        image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("HEIF", {}),
        ("AVIF", {"quality": 90}),
        ("JPEG2000", {}),
        ("MPO", {"save_all": True, "append_images": [Image.new("L", (90, 60))], "quality": 95}),
    ],
)
def test_what_phones_and_cameras_send_is_read(
    client: httpx.Client, kind: str, options: dict[str, Any]
) -> None:
    content = saved(kind, **options)
    assert predict(client, content).json()["plate"] == "GE65432"
    (result,) = client.post("/v1/read", content=content).json()["results"]
    assert (result["width"], result["height"]) == (300, 200)
    assert {"warnings", "preview"} & set(result) == set()


def test_a_jpeg_without_its_end_is_read_with_a_warning(client: httpx.Client) -> None:
    whole = saved("JPEG", quality=95)
    (result,) = client.post("/v1/read", content=b"\r\n" + whole[:-2]).json()["results"]
    assert [plate["plate"] for plate in result["plates"]] == ["GE65432"]
    assert result["warnings"] == [
        "the image: has 2 bytes before the start of the image, which are left out",
        "the image: lacks its last bytes: all of the image is there",
    ]
    response = client.post("/v1/read", content=whole[: len(whole) // 2])
    assert response.status_code == 400
    error = response.json()["results"][0]["error"]
    assert error["code"] == "damaged_image"
    assert re.fullmatch(r"the image: is truncated: \d\d % of the image is there", error["message"])


def test_heic_on_a_server_without_its_extra(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.core.images.find_spec", lambda _: None)
    response = predict(client, saved("HEIF"))
    assert error_of(response) == (415, "unsupported_format", "formats")
    assert "swiss-plates[heic]" in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["HEIF", "PNG"])
def test_a_preview_can_be_asked_for(client: httpx.Client, kind: str) -> None:
    files = [("files", ("a", saved(kind))), ("files", ("b", b"no image"))]
    good, bad = client.post("/v1/read?preview=true", files=files).json()["results"]
    with Image.open(io.BytesIO(b64decode(good["preview"]))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (300, 200))
        assert (
            np.abs(np.asarray(image)[..., 1].astype(int) - scene("GE65432", size=(200, 300))).mean()
            < 5
        )
    assert "preview" not in bad
    large = io.BytesIO()
    Image.new("RGB", (2000, 1000), (200, 30, 30)).save(large, "JPEG")
    answer = client.post("/v1/read", params={"preview": True}, content=large.getvalue())
    with Image.open(io.BytesIO(b64decode(answer.json()["results"][0]["preview"]))) as image:
        assert image.size == (1600, 800)
        assert image.getpixel((5, 5))[0] > 150


def test_the_page_knows_the_limits(client: httpx.Client) -> None:
    text = client.get("/").text
    for name, value in (("bytes", 2**20), ("pixels", 2_000_000), ("side", 3000)):
        assert f'data-{name}="{value}"' in text
    assert "JPEG, PNG, WebP, HEIC, AVIF or JPEG 2000." in text
    assert "{" not in text


# Limits


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"hello", (415, "unsupported_format", "formats")),
        (gif(), (415, "unsupported_format", "formats")),
        (encoded(scene())[:400], (400, "damaged_image", None)),
        (encoded(scene(), ".jpg")[:900], (400, "damaged_image", None)),
        (encoded(np.zeros((1500, 1500), np.uint8)), (413, "image_too_large", "max_pixels")),
        (encoded(np.zeros((1, 3001), np.uint8)), (413, "image_too_large", "max_side")),
        (b"\xff\xd8\xff" + bytes(2**20), (413, "body_too_large", "max_body_mib")),
        (b"", (400, "damaged_image", None)),
    ],
)
def test_what_cannot_be_read_says_why(
    client: httpx.Client, content: bytes, wanted: tuple[int, str, str | None]
) -> None:
    assert error_of(predict(client, content)) == wanted
    if content and wanted[1] != "body_too_large":
        answer = client.post("/v1/read", content=content)
        assert answer.status_code == wanted[0]
        assert answer.json()["results"][0]["error"]["code"] == wanted[1]


def test_a_body_without_a_length_is_counted_as_it_comes(client: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 65536
            yield bytes(65536)

    try:
        response = client.post("/v1/read", content=endless())
        assert error_of(response) == (413, "body_too_large", "max_body_mib")
    except httpx.WriteError:
        pass  # The server has closed the connection while it was sent to.
    assert sent < 20 * 2**20
    assert client.get("/livez").status_code == 200


def test_too_many_files(client: httpx.Client) -> None:
    files = [("files", ("x.png", b"x")) for _ in range(4)]
    assert error_of(client.post("/v1/read", files=files)) == (413, "too_many_files", "max_files")


@pytest.mark.parametrize(
    ("content", "kind", "wanted"),
    [
        (b"", "image/png", (400, "no_file", None)),
        (b"{}", "application/json", (415, "unsupported_media_type", None)),
        (b"a=b", "application/x-www-form-urlencoded", (415, "unsupported_media_type", None)),
        (b"--x", "multipart/form-data", (400, "bad_form", None)),
        (b"garbage", "multipart/form-data; boundary=x", (400, "bad_form", None)),
        (b"--x--\r\n", "multipart/form-data; boundary=x", (400, "no_file", None)),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            (400, "no_file", None),
        ),
        (
            b"--x\r\n\r\nno name\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            (400, "bad_form", None),
        ),
    ],
)
def test_bodies_that_hold_no_file(
    client: httpx.Client, content: bytes, kind: str, wanted: tuple[int, str, str | None]
) -> None:
    response = client.post("/v1/read", content=content, headers={"Content-Type": kind})
    assert error_of(response) == wanted


def form_of(disposition: str, *headers: str) -> bytes:
    """A form with the boundary x and one part, an image of BE1."""
    head = "\r\n".join((f"Content-Disposition: form-data; {disposition}", *headers))
    return b"--x\r\n" + head.encode() + b"\r\n\r\n" + encoded(scene("BE1")) + b"\r\n--x--\r\n"


def post_form(client: httpx.Client, content: bytes, parameters: str = "") -> httpx.Response:
    kind = f"multipart/form-data; boundary=x{parameters}"
    return client.post("/v1/read", content=content, headers={"Content-Type": kind})


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-7", "utf-16", "zip", "none", ""])
@pytest.mark.parametrize("name", ["a+2AA-.jpg", "Zürich.jpg", "\u202e.jpg", "%00"])
def test_the_charset_that_a_form_names_is_ignored(
    client: httpx.Client, charset: str, name: str
) -> None:
    """RFC 7578 has none, and some of Python's codecs raise errors or give lone surrogates."""
    form = form_of(f'name="files"; filename="{name}"')
    response = post_form(client, form, f"; charset={charset}")
    assert response.status_code == 200
    (result,) = response.json()["results"]
    assert (result["name"], result["plates"][0]["plate"]) == (name, "BE1")


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("filename*=UTF-8''Z%C3%BCrich.jpg", "Zürich.jpg"),
        ("filename*=utf-8'de-CH'Z%C3%BCrich.jpg", "Zürich.jpg"),
        ("filename* = iso-8859-1''Z%FCrich.jpg", "Zürich.jpg"),
        ("FILENAME*=UTF-8''a.jpg; x=y", "a.jpg"),
        ("filename*=undefined''a%FF.jpg", "a\ufffd.jpg"),
        ("filename*=UTF-8''%ED%A0%80", "\ufffd\ufffd\ufffd"),
        ("filename*=UTF-8''", "file"),
        # RFC 7578 knows the plain one alone, so that it counts where both are there.
        ("filename=\"plain.jpg\"; filename*=UTF-8''other.jpg", "plain.jpg"),
        ("filename*=UTF-8''other.jpg; filename=plain.jpg", "plain.jpg"),
        ('filename="no\\"; filename*=UTF-8\'\'x.jpg"', "no\"; filename*=UTF-8''x.jpg"),
    ],
)
def test_names_of_files(client: httpx.Client, parameters: str, name: str) -> None:
    response = post_form(client, form_of(f'name="files"; {parameters}'))
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert (result["name"], result["plates"][0]["plate"]) == (name, "BE1")


@pytest.mark.parametrize(
    "parameters", ["", "; filename*=no-quotes", "; x=\"; filename*=UTF-8''a.jpg\"", "; filename*"]
)
def test_a_field_without_a_name_of_a_file_is_none(client: httpx.Client, parameters: str) -> None:
    answer = post_form(client, form_of(f'name="files"{parameters}'))
    assert error_of(answer) == (400, "no_file", None)


def test_a_long_header_of_a_part_takes_no_long_time() -> None:
    """It is parsed in the event loop, and a form may have thousands of parts."""
    disposition = b'form-data; name="files"; x="' + b'\\"' * 50_000
    started = time.process_time()
    assert _extended_name(disposition) is None
    assert _extended_name(disposition + b"\"; filename*=UTF-8''a.jpg") == "a.jpg"
    assert time.process_time() - started < 2


def test_a_form_that_is_cut_off(client: httpx.Client) -> None:
    form = form_of('name="files"; filename="a.png"')
    assert error_of(post_form(client, form[:-40])) == (400, "bad_form", None)
    # Some clients do not mark the last boundary as such.
    assert post_form(client, form[:-4] + b"\r\n").status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "x-own", "gzip, identity"])
@pytest.mark.parametrize("path", ["/predict", "/v1/read", "/v1/feedback"])
def test_an_encoded_body_is_refused_with_the_name_of_its_encoding(
    client: httpx.Client, encoding: str, path: str
) -> None:
    content = gzip.compress(encoded(scene("BE1")))
    response = client.post(path, content=content, headers={"Content-Encoding": encoding})
    assert error_of(response) == (415, "unsupported_encoding", None)
    assert repr(encoding.split(",", maxsplit=1)[0]) in response.json()["error"]["message"]
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("header", ["Content-Encoding: GZIP", "Content-Transfer-Encoding: base64"])
def test_an_encoded_part_is_refused_too(client: httpx.Client, header: str) -> None:
    response = post_form(client, form_of('name="files"; filename="a.png"', header))
    assert error_of(response) == (415, "unsupported_encoding", None)
    assert header.split()[1].lower() in response.json()["error"]["message"]


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_body_that_is_not_encoded(client: httpx.Client, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    assert client.post("/v1/read", content=encoded(scene()), headers=headers).status_code == 200
    part = form_of('name="files"; filename="a.png"', "Content-Transfer-Encoding: binary")
    assert post_form(client, part).status_code == 200


@contextmanager
def sent(client: httpx.Client, content: bytes) -> Iterator[None]:
    """An image that was sent by a client that leaves without its answer."""
    address = (client.base_url.host, client.base_url.port)
    head = f"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode() + content)
        yield


def test_a_client_that_leaves_is_no_error(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    content = encoded(scene("BE1"))
    for _ in range(10):
        with sent(client, content):
            pass
    gc.collect()
    wait_until(lambda: not client.server.engine.pending)  # type: ignore[attr-defined]
    gc.collect()
    assert predict(client, content).status_code == 200
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_headers_may_not_be_huge(client: httpx.Client) -> None:
    response = client.get("/livez", headers={"X-Long": "x" * 40_000})
    assert error_of(response) == (431, "headers_too_large", "max_header_kib")


def test_other_paths_and_methods(client: httpx.Client) -> None:
    assert error_of(client.get("/nothing"))[:2] == (404, "not_found")
    assert error_of(client.get("/predict"))[:2] == (405, "method_not_allowed")
    assert error_of(client.post("/v1/model/reload"))[0] == 404


@pytest.mark.parametrize("side", [300, 600, 1000])
def test_bodies_of_several_parts(client: httpx.Client, side: int) -> None:
    noise = np.random.default_rng(side).integers(100, 140, (side, side)).astype(np.uint8)
    content = encoded(noise)
    assert len(content) > 64 * 1024 or side == 300
    for _ in range(3):
        assert predict(client, content).status_code == 200
        assert client.post("/v1/read", content=content).status_code == 200


# Images of all kinds


def test_boxes_are_those_of_the_displayed_image(client: httpx.Client) -> None:
    upright = scene("BE1", (20, 100, 140, 132), size=(256, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(file, "JPEG", quality=97, exif=exif)
    (result,) = client.post("/v1/read", content=file.getvalue()).json()["results"]
    assert (result["width"], result["height"]) == (200, 256)
    assert result["plates"][0]["plate"] == "BE1"
    assert result["plates"][0]["box"] == pytest.approx([20, 100, 140, 132], abs=3)


def images() -> dict[str, Image.Image]:
    grey = Image.fromarray(scene("BE1"))
    rgb = grey.convert("RGB")
    wide = np.asarray(grey).astype(np.uint16) * 257
    return {
        "grey.png": grey,
        "rgb.jpg": rgb,
        "cmyk.jpg": rgb.convert("CMYK"),
        "rgba.png": rgb.convert("RGBA"),
        "palette.png": rgb.convert("P", palette=Image.Palette.ADAPTIVE),
        "16bit.png": Image.fromarray(wide),
        "lossless.webp": rgb,
    }


@pytest.mark.parametrize("name", images())
def test_kinds_of_images(client: httpx.Client, name: str) -> None:
    file = io.BytesIO()
    image = images()[name]
    kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.split(".")[1]]
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert predict(client, file.getvalue()).json()["plate"] == "BE1"


def test_the_first_frame_of_an_animation_is_read(client: httpx.Client) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(scene(text)).convert("RGB") for text in ("BE1", "VD777")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert predict(client, file.getvalue()).json()["plate"] == "BE1"


def test_an_image_of_one_pixel(client: httpx.Client) -> None:
    response = client.post("/v1/read", content=encoded(np.full((1, 1), 99, np.uint8)))
    assert response.json()["results"][0]["plates"] == []


# Access


def test_keys_are_asked_for(folder: Path, tmp_path: Path) -> None:
    content = encoded(scene("BE1"))
    with serving(folder, api_keys=write_keys(tmp_path / "keys", "open-sesame")) as client:
        for headers in ({}, {"X-API-Key": "wrong"}):
            refused = predict(client, content, headers=headers)
            assert error_of(refused)[:2] == (401, "unauthorized")
            assert client.get("/v1/model", headers=headers).status_code == 401
        headers = {"X-API-Key": "open-sesame"}
        assert predict(client, content, headers=headers).json()["plate"] == "BE1"
        for path in ("/livez", "/readyz", "/metrics", "/", "/docs"):
            assert client.get(path).status_code == 200


def test_senders_have_a_rate(folder: Path) -> None:
    content = encoded(scene("BE1"))
    with serving(folder, rate=0.001, burst=3) as client:
        files = [("files", ("x.png", content))] * 3
        assert client.post("/v1/read", files=files).status_code == 200
        refused = client.post("/v1/read", files=files)
        assert error_of(refused) == (429, "rate_limited", "rate")
        # One image in a thousand seconds.
        assert 900 < int(refused.headers["retry-after"]) <= 1000


def test_what_the_server_has_no_room_for_does_not_count_for_the_rate(folder: Path) -> None:
    with serving(folder, rate=0.001, burst=1) as client:
        engine = client.server.engine  # type: ignore[attr-defined]
        model, engine._model = engine._model, None
        for _ in range(2):
            refused = predict(client, encoded(scene("BE1")))
            assert error_of(refused) == (503, "starting", None)
        assert client.delete(f"/v1/feedback/{'0' * 32}").status_code == 503
        engine._model = model
        assert predict(client, encoded(scene("BE1"))).status_code == 200


# What is told about the server


def test_the_manifest_is_shown(client: httpx.Client, folder: Path) -> None:
    answer = client.get("/v1/model").json()
    assert answer["manifest"] == json.loads((folder / "manifest.json").read_text("utf-8"))
    read = client.post("/v1/read", content=encoded(scene())).json()
    assert read["model"] == answer["model"]


def test_metrics_count_and_keep_texts_to_themselves(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with serving(folder) as client:
        assert predict(client, encoded(scene("TI1234567"))).json()["plate"] == "TI1234567"
        predict(client, encoded(np.full((90, 90), 120, np.uint8)))
        predict(client, b"nothing")
        client.get("/TI1234567")
        text = client.get("/metrics").text
    assert 'plates_pictures_total{outcome="text"} 1.0' in text
    assert 'plates_pictures_total{outcome="nothing"} 1.0' in text
    assert "plates_without_plate_ratio 0.5" in text
    assert 'plates_rejections_total{reason="unsupported_format"} 1.0' in text
    assert 'plates_request_seconds_count{route="/predict",status="200"} 2.0' in text
    assert 'plates_request_seconds_count{route="other",status="404"} 1.0' in text
    assert "plates_batch_pictures_count 3.0" in text
    assert "plates_confidence_count 1.0" in text
    assert "plates_queue_pictures 0.0" in text
    assert "1234567" not in text
    own = [record for record in caplog.records if record.name.startswith(("plates", "uvicorn"))]
    assert own
    assert not [record for record in own if "1234567" in record.getMessage()]


def test_requests_have_an_id(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    response = client.get("/livez", headers={"X-Request-ID": "my-request.7"})
    assert response.headers["x-request-id"] == "my-request.7"
    wait_until(lambda: "my-request.7" in caplog.text)
    ids = {client.get("/livez", headers={"X-Request-ID": bad}).headers["x-request-id"]
           for bad in ("", "two words", "x" * 65, "<script>")}  # fmt: skip
    assert len(ids) == 4
    assert all(len(each) == 32 for each in ids)


def test_the_page_and_its_files(client: httpx.Client) -> None:
    page = client.get("/")
    assert "Swiss Plate Reader" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    for path in ("/page/app.js", "/page/style.css", "/page/icon.svg", "/docs", "/page/docs.js",
                 "/swagger/swagger-ui-bundle.js", "/swagger/swagger-ui.css"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
    # It works offline.
    for path in ("/", "/docs", "/page/app.js", "/page/style.css"):
        assert "://" not in client.get(path).text.replace("http://www.w3.org", "")
    assert client.get("/page/../settings.py").status_code == 404


def test_openapi_describes_the_forms(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) >= {
        "/predict",
        "/v1/read",
        "/v1/model",
        "/livez",
        "/readyz",
        "/metrics",
    }
    form = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert form["multipart/form-data"]["schema"]["required"] == ["file"]


# Under load


def test_what_is_too_much_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    content = encoded(scene("BE1"))
    with serving(folder, queue=2, workers=1, batch=1) as client:
        reader = client.server.engine.model.reader  # type: ignore[attr-defined]
        read = reader.read
        monkeypatch.setattr(reader, "read", lambda image: (gate.wait(10), read(image))[1])
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{client.base_url}/v1/read", content=content))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: client.server.engine.pending == 2)  # type: ignore[attr-defined]
        started = time.monotonic()
        refused = client.post("/v1/read", content=content)
        assert time.monotonic() - started < 1
        assert error_of(refused) == (503, "queue_full", "queue")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 200
        gate.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert client.post("/v1/read", content=content).status_code == 200


def test_nobody_waits_longer_than_the_deadline(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    content = encoded(scene("BE1"))
    with serving(folder, workers=1, batch=1, deadline_s=0.3) as client:
        reader = client.server.engine.model.reader  # type: ignore[attr-defined]
        read, calls = reader.read, []

        def slow(image: object) -> object:
            calls.append(1)
            gate.wait(10)
            return read(image)

        monkeypatch.setattr(reader, "read", slow)
        first = threading.Thread(target=lambda: predict(client, content))
        first.start()
        wait_until(lambda: calls)
        assert error_of(httpx.post(f"{client.base_url}/predict", files={"file": content})) == (
            503, "deadline", "deadline_s",
        )  # fmt: skip
        gate.set()
        first.join()
        wait_until(lambda: client.server.engine.pending == 0)  # type: ignore[attr-defined]
        # The second was not computed: nobody waited for it any more.
        assert len(calls) == 1
        assert predict(client, content).status_code == 200


def test_who_has_gone_is_not_computed_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    content = encoded(scene("BE1"))
    with serving(folder, workers=1, batch=1) as client:
        engine = client.server.engine  # type: ignore[attr-defined]
        reader = engine.model.reader
        read, calls = reader.read, []

        def slow(image: object) -> object:
            calls.append(1)
            gate.wait(20)
            return read(image)

        monkeypatch.setattr(reader, "read", slow)
        first = threading.Thread(target=lambda: predict(client, content))
        first.start()
        wait_until(lambda: calls)
        with sent(client, content):
            wait_until(lambda: engine.pending == 2)
        # Neither its place nor its content is kept until its turn.
        wait_until(lambda: engine.pending == 1, 10)
        assert not engine._waiting
        gate.set()
        first.join()
        wait_until(lambda: engine.pending == 0)
        assert len(calls) == 1
        assert "plates_skipped_total 1.0" in client.get("/metrics").text


def test_concurrent_requests_are_computed_together(folder: Path) -> None:
    content = encoded(scene("BE1"))
    with serving(folder, workers=1, window_ms=50) as client:

        def ask() -> None:
            for _ in range(10):
                answer = httpx.post(
                    f"{client.base_url}/predict", files={"file": content}, timeout=20
                )
                assert answer.json()["plate"] == "BE1"

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = client.get("/metrics").text
    count = float(text.split("plates_batch_pictures_count ")[1].split()[0])
    assert float(text.split("plates_batch_pictures_sum ")[1].split()[0]) == 80
    assert count < 60


def test_images_that_are_large_together_are_not_decoded_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.serve.engine.BATCH_PIXELS", 256 * 256)
    texts = ["BE1", "GE65432", "ZH123456"]
    files = [("files", (text, encoded(scene(text)))) for text in texts]
    files.insert(1, ("files", ("broken", b"no image")))
    with serving(folder, workers=1) as client:
        reader = client.server.engine.model.reader  # type: ignore[attr-defined]
        read, batch = reader.read, reader.read_batch
        sizes: list[int] = []
        monkeypatch.setattr(reader, "read", lambda image: (sizes.append(1), read(image))[1])
        monkeypatch.setattr(
            reader, "read_batch", lambda images: (sizes.append(len(images)), batch(images))[1]
        )
        results = client.post("/v1/read", files=files).json()["results"]
        assert sizes == [2, 1]
        assert results.pop(1)["error"]["code"] == "unsupported_format"
        assert [result["plates"][0]["plate"] for result in results] == texts


def test_a_slow_body_is_not_waited_for(folder: Path) -> None:
    def slowly() -> Iterator[bytes]:
        yield b"\xff\xd8\xff"
        time.sleep(1.0)
        yield b"rest"

    with serving(folder, deadline_s=0.3) as client:
        try:
            response = client.post("/v1/read", content=slowly())
            assert error_of(response) == (408, "slow_body", "deadline_s")
        except httpx.TransportError:
            pass  # It was told so, and the connection closed, while it was sending.
        assert 'reason="slow_body"} 1.0' in client.get("/metrics").text


def test_bodies_that_are_held_are_bounded(folder: Path) -> None:
    body = b"x" * 12_000
    with serving(folder, max_pending_mib=0.02) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(
                b"POST /v1/read HTTP/1.1\r\nHost: x\r\nContent-Length: 12001\r\n\r\n"
            )
            connection.sendall(body)
            # While it waits for the last byte, there is no room for another one.
            wait_until(lambda: client.post("/v1/read", content=body).status_code == 503, 8)
            refused = client.post("/v1/read", content=body)
            assert error_of(refused) == (503, "memory_full", "max_pending_mib")
        # And let go of.
        wait_until(lambda: client.post("/v1/read", content=body).status_code == 415)


def test_what_could_never_be_accepted_is_not_to_be_tried_again(folder: Path) -> None:
    with serving(folder, max_pending_mib=0.01, queue=2) as client:
        response = client.post("/v1/read", content=bytes(20_000))
        assert error_of(response) == (413, "body_too_large", "max_body_mib")
        assert f'data-bytes="{round(0.01 * 2**20)}"' in client.get("/").text
        files = [("files", ("x.png", b"x")) for _ in range(3)]
        response = client.post("/v1/read", files=files)
        assert error_of(response) == (413, "too_many_files", "max_files")
        assert client.post("/v1/read", files=files[:2]).status_code == 415


def test_a_fault_of_one_image_is_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(folder) as client:
        reader = client.server.engine.model.reader  # type: ignore[attr-defined]
        read, batch = reader.read, reader.read_batch

        def picky(image: Any) -> object:
            if image.grey.shape == (50, 50):
                raise RuntimeError("a fault")
            return read(image)

        def picky_batch(images: list[Any]) -> object:
            if any(image.grey.shape == (50, 50) for image in images):
                raise RuntimeError("a fault")
            return batch(images)

        monkeypatch.setattr(reader, "read", picky)
        monkeypatch.setattr(reader, "read_batch", picky_batch)
        bad = encoded(np.zeros((50, 50), np.uint8))
        files = [("files", ("a", bad)), ("files", ("b", encoded(scene("BE1"))))]
        first, second = client.post("/v1/read", files=files).json()["results"]
        assert first["error"]["code"] == "internal"
        assert second["plates"][0]["plate"] == "BE1"


def test_a_fault_of_a_batch_is_answered_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = encoded(scene("BE1"))
    with serving(folder) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "_load", lambda *_: 1 / 0)
            assert error_of(predict(client, content)) == (500, "internal", None)
        assert "ZeroDivisionError" in caplog.text
        assert predict(client, content).json()["plate"] == "BE1"


def test_a_fault_of_a_route_is_answered_like_others(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("src.serve.app.read_uploads", fail)
    response = predict(client, b"", headers={"X-Request-ID": "my-request.8"})
    assert error_of(response) == (500, "internal", None)
    assert "a fault" not in response.text
    assert response.headers["x-request-id"] == "my-request.8"
    assert response.headers["x-content-type-options"] == "nosniff"
    text = client.get("/metrics").text
    assert 'plates_request_seconds_count{route="/predict",status="500"} 1.0' in text
    (logged,) = (each for each in caplog.records if each.levelname == "ERROR")
    assert "my-request.8" in logged.getMessage()
    assert "a fault" in caplog.text


def test_unsure_texts_are_no_texts(client: httpx.Client) -> None:
    content = encoded(scene(TEXTS[UNSURE]))
    (result,) = client.post("/v1/read", content=content).json()["results"]
    (plate,) = result["plates"]
    assert (plate["plate"], plate["canton"], plate["number"]) == (None, None, None)
    assert plate["reason"] == "unreadable"
    assert 0.2 < plate["confidence"] < 0.5
    assert predict(client, content).json()["plate"] is None
    assert TEXTS[UNSURE] not in client.post("/v1/read", content=content).text
