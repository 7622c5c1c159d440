"""The command that reads images, as people call it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from src.inference.reader import PlateReader
from src.read import __main__ as read
from src.read.__main__ import Result, drawing_path, find_files, main
from tests.bundles import BLACK, TEXTS, UNSURE, draw_plate, scene, write_bundle

ROOT = Path(__file__).parents[2]
KEYS = ["plate", "canton", "number", "confidence", "char_confidences", "box", "corners", "lines",
        "format", "reason", "colour", "colour_confidence"]  # fmt: skip
"""As documented, in their order."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("read") / "bundle")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``photos`` of the current one, with good and bad files in it."""
    folder = tmp_path / "photos"
    (folder / "a" / "deep").mkdir(parents=True)
    cv2.imwrite(str(folder / "one.png"), scene("GE65432"))
    two = draw_plate(
        scene("TI1234567", (20, 40, 140, 70)), TEXTS[UNSURE], (120, 180, 240, 210), BLACK
    )
    cv2.imwrite(str(folder / "a" / "two.PNG"), two)
    cv2.imwrite(str(folder / "a" / "deep" / "none.bmp"), np.full((99, 120), 120, np.uint8))
    (folder / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (folder / "zero.jpeg").write_bytes(b"")
    # Nobody's images.
    (folder / "notes.txt").write_text("nothing")
    (folder / "._one.png").write_bytes(b"what another system keeps")
    monkeypatch.chdir(tmp_path)
    return folder


def run(
    capfd: pytest.CaptureFixture[str], model: Path, *arguments: str | Path
) -> tuple[int, list[str], list[str]]:
    """Status, lines of output and lines of errors of the command."""
    status = main([*map(str, arguments), "--model", str(model)])
    output, errors = capfd.readouterr()
    return status, output.splitlines(), errors.splitlines()


def objects(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


# Output


def test_json(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "--json", "photos")
    assert status == 1
    found = objects(output)
    paths = ["one.png", "zero.jpeg", "a/broken.jpg", "a/two.PNG", "a/deep/none.bmp"]
    assert [item["path"] for item in found] == [f"photos/{path}" for path in paths]
    one, zero, broken, two, none = found
    assert zero == {"path": "photos/zero.jpeg", "error": "photos/zero.jpeg: is empty"}
    assert list(broken) == ["path", "error"]
    assert "photos/a/broken.jpg: is truncated" in broken["error"]
    assert none == {"path": "photos/a/deep/none.bmp", "plates": []}
    assert errors == [f"error: {zero['error']}", f"error: {broken['error']}"]
    (plate,) = one["plates"]
    assert list(plate) == KEYS
    assert (plate["plate"], plate["canton"], plate["number"]) == ("GE65432", "GE", "65432")
    assert 0.95 < plate["confidence"] <= 1
    assert len(plate["char_confidences"]) == 6
    assert plate["box"] == pytest.approx([60, 100, 180, 132], abs=1)
    assert np.shape(plate["corners"]) == (4, 2)
    assert plate["lines"] == 1
    # The best one first; what is not sure enough is a box without a text.
    first, second = two["plates"]
    assert (first["plate"], second["plate"]) == ("TI1234567", None)
    assert second["canton"] is second["number"] is None
    assert list(second) == KEYS
    assert second["box"] == pytest.approx([120, 180, 240, 210], abs=1)


def test_text(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "photos/a", "photos/one.png")
    assert status == 1
    assert [line.rsplit(" (", 1)[0] for line in output] == [
        "photos/a/two.PNG: TI 1234567",
        "photos/a/two.PNG: a plate, but no text is confident enough",
        "photos/a/deep/none.bmp: no plate",
        "photos/one.png: GE 65432",
    ]
    assert output[0].endswith("%)")
    assert len(errors) == 1
    assert errors[0].startswith("error: photos/a/broken.jpg: is truncated")


def test_all_is_well(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    status, output, errors = run(capfd, model, "photos/one.png")
    assert (status, len(output), errors) == (0, 1, [])


def test_the_least_confidence(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    _, output, _ = run(capfd, model, "--json", "--min-confidence", "0", "photos/a/two.PNG")
    assert [plate["plate"] for plate in objects(output)[0]["plates"]] == [
        "TI1234567",
        TEXTS[UNSURE],
    ]
    _, output, _ = run(capfd, model, "--json", "--min-confidence", "1", "photos/a/two.PNG")
    assert [plate["plate"] for plate in objects(output)[0]["plates"]] == [None, None]
    for wrong in ("1.1", "-0.1", "much", "nan"):
        with pytest.raises(SystemExit) as caught:
            main(["--min-confidence", wrong, "photos"])
        assert caught.value.code == 2


def test_a_bundle_that_is_missing(
    capfd: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    status, output, errors = run(capfd, tmp_path / "nowhere", "photos")
    assert (status, output) == (1, [])
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "there is no bundle" in errors[0]


def test_a_fault_of_the_program_does_not_stop_the_others(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = PlateReader._candidates

    def fail(self: PlateReader, images: Any, **options: Any) -> Any:
        if any(image.grey.shape == (99, 120) for image in images):
            raise ZeroDivisionError("of all things")
        return found(self, images, **options)

    monkeypatch.setattr(PlateReader, "_candidates", fail)
    status, output, _ = run(
        capfd, model, "--json", "photos/one.png", "photos/a/deep", "photos/one.png"
    )
    first, failed, last = objects(output)
    assert status == 1
    assert first == last
    assert first["plates"][0]["plate"] == "GE65432"
    assert "ZeroDivisionError: of all things" in failed["error"]


# Paths


def test_files_are_found(images: Path) -> None:
    def found(*arguments: str) -> list[str]:
        return [result.path for result in find_files(arguments)]

    assert found("photos/*.png", "photos/one.png") == ["photos/one.png"] * 2
    assert found("photos/**/*.PNG") == ["photos/a/two.PNG"]
    # Each once, though the pattern finds the folders too.
    assert found("photos/**") == sorted(found("photos"))
    assert sorted(found("photos/**/*")) == sorted([*found("photos"), "photos/notes.txt"])
    # What a pattern finds may be a folder.
    assert found("phot*/a/de?p") == ["photos/a/deep/none.bmp"]
    assert found(str(images / "o*")) == [str(images / "one.png")]
    # A name is a name, whatever it looks like.
    (images / "a[1].png").write_bytes(b"")
    assert found("photos/a[1].png") == ["photos/a[1].png"]
    (result,) = find_files(["photos/*.gif"])
    assert (result.path, result.error) == ("photos/*.gif", "photos/*.gif: no file matches")
    # What is named is tried, whatever it is.
    assert found("photos/notes.txt", "missing") == ["photos/notes.txt", "missing"]


def test_a_path_that_cannot_be_is_an_error_of_its_own(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    status, output, _ = run(capfd, model, "--json", "a" * 300, "b" * 300 + "*", "photos/one.png")
    first, second, third = objects(output)
    assert "File name too long" in first["error"]
    assert "no file matches" in second["error"]
    assert third["plates"]
    assert status == 1


def test_a_link_to_its_own_folder_is_no_trap(images: Path) -> None:
    (images / "a" / "again").symlink_to(images)
    assert len(list(find_files(["photos"]))) == 5


def test_a_folder_that_cannot_be_searched(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    results = list(find_files(["photos"]))
    assert len(results) == 5
    assert results[-1] == Result(
        "photos/a/deep", error="photos/a/deep: cannot be searched: Permission denied"
    )


def command(model: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "src.read", *arguments, "--model", str(model)]


def environment() -> dict[str, str]:
    # As where the language is none: names of files that are no UTF-8 would be errors.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}


def test_a_list_that_comes_slowly_is_read_as_it_comes(model: Path, images: Path) -> None:
    with subprocess.Popen(
        command(model, "-", "--json"), env=environment(), text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for path in ("photos/one.png", "photos/a/two.PNG", "photos/zero.jpeg"):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], 60)
            assert ready, "the result of a path waits for the next one"
            assert json.loads(process.stdout.readline())["path"] == path
        # A folder, an empty line, and names of any characters.
        name = "photos/n\u00e4me \u2603\udcff.png"
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == "error: photos/zero.jpeg: is empty\n"
    (images / "one.png").rename(name)
    done = subprocess.run(
        command(model, "-", "--json"), env=environment(), capture_output=True, check=False,
        input=b"photos/a/deep\n\n" + os.fsencode(name) + b"\r\n",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = objects(done.stdout.decode("ascii").splitlines())
    assert first["path"] == "photos/a/deep/none.bmp"
    assert second["path"] == name
    assert second["plates"][0]["plate"] == "GE65432"
    done = subprocess.run(command(model, name), env=environment(), capture_output=True, check=False)
    assert done.stdout.startswith(os.fsencode(name))


def test_nobody_reads_on(model: Path, images: Path) -> None:
    for i in range(2000):
        (images / f"{i}.png").symlink_to(images / "one.png")
    with subprocess.Popen(
        command(model, "photos", "--json"), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == read.BROKEN_PIPE
    assert [line for line in errors.splitlines() if not line.startswith(b"error: photos/")] == []


@pytest.mark.parametrize("argument", ["-", "photos"])
def test_ctrl_c_ends_quietly(model: Path, images: Path, argument: str) -> None:
    for i in range(3000):
        (images / f"{i}.png").symlink_to(images / "one.png")
    with subprocess.Popen(
        command(model, argument), env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        if argument == "-":
            process.stdin.write(b"photos/one.png\n")
            process.stdin.flush()
        assert process.stdout.readline().startswith(b"photos/")
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
        assert time.monotonic() - start < 10
        assert process.returncode == read.INTERRUPTED
    assert b"Traceback" not in errors
    assert b"Fatal" not in errors


def test_results_keep_the_order_of_the_paths(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    """Some take long and some fail, in several threads."""
    names = []
    for i in range(60):
        size = (1500, 1500) if i % 7 == 0 else (200, 256)
        path = images / f"{i:02}.png"
        cv2.imwrite(str(path), scene(TEXTS[i % UNSURE], (20, 100, 120, 130), size))
        if i % 11 == 5:
            path.write_bytes(b"")
        names.append(f"photos/{i:02}.png")
    status, output, _ = run(capfd, model, "--json", *names)
    found = objects(output)
    assert status == 1
    assert [item["path"] for item in found] == names
    for i, item in enumerate(found):
        if i % 11 == 5:
            assert "error" in item
        elif i % 7:
            assert [plate["plate"] for plate in item["plates"]] == [TEXTS[i % UNSURE]]


# Drawing


def test_drawings(capfd: pytest.CaptureFixture[str], model: Path, images: Path) -> None:
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(scene("BE1", size=(200, 300)))))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(images / "turned.png", exif=exif)
    run(capfd, model, "photos", "--draw", "drawn")
    drawn = Path("drawn")
    names = ["one.png", "a/two.PNG", "a/deep/none.bmp", "turned.png"]
    expected = {drawn / "photos" / f"{name}.plates.jpg" for name in names}
    assert {path for path in drawn.rglob("*") if path.is_file()} == expected
    one = cv2.imread(str(drawn / "photos/one.png.plates.jpg"))
    changed = np.abs(one.astype(int) - cv2.imread("photos/one.png")).max(axis=2) > 60
    # The outline is there, what is far from it is as it was.
    assert changed[100, 60:180].mean() > 0.8
    assert not changed[150:, :].any()
    assert not changed[:, 200:].any()
    none = cv2.imread(str(drawn / "photos/a/deep/none.bmp.plates.jpg"))
    assert np.abs(none.astype(int) - 120).max() <= 2
    # As it is displayed: width and height are not those of the file.
    assert cv2.imread(str(drawn / "photos/turned.png.plates.jpg")).shape == (200, 300, 3)


def test_drawings_are_not_read_in_turn(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    for _ in range(2):
        _, output, _ = run(capfd, model, ".", "--json", "--draw", "photos/drawn")
        assert len(output) == 5
    assert len(list(images.glob("drawn/**/*.jpg"))) == 3


def test_drawings_of_two_files_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    paths = [
        "a.jpg",
        "a.png",
        "b/a.jpg",
        "../a.jpg",
        str(tmp_path / "b" / "a.jpg"),
        "/a.jpg",
        "../../a.jpg",
    ]
    places = {drawing_path(path, Path("out")) for path in paths}
    assert len(places) == len(paths)
    assert all(".." not in place.parts and place.parts[0] == "out" for place in places)
    assert drawing_path("b/../a.jpg", Path("out")) == drawing_path("./a.jpg", Path("out"))
    assert drawing_path(str(here / "a.jpg"), Path("out")) == Path("out/a.jpg.plates.jpg")


def test_a_drawing_that_cannot_be_written(
    capfd: pytest.CaptureFixture[str], model: Path, images: Path
) -> None:
    Path("drawn").write_text("a file where a folder should be")
    status, output, errors = run(capfd, model, "photos/one.png", "--json", "--draw", "drawn")
    assert status == 1
    assert objects(output)[0]["plates"][0]["plate"] == "GE65432"
    assert len(errors) == 1
    assert errors[0].startswith("error: photos/one.png: cannot write the drawing: ")


def test_help_says_what_there_is(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capfd.readouterr().out
    for option in ("PATH", "--json", "--draw DIR", "--min-confidence P", "--model DIR"):
        assert option in output
