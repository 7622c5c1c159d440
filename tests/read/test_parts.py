"""Reading into Parquet files: the fields of --json, only what is missing, and whose results are refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from gcp_storage_emulator.server import create_server

from src.inference.reader import PlateReader
from src.read import parts, storage
from src.read.__main__ import main
from src.read.parts import MANIFEST, SUCCESS, PartWriter, Settings
from src.read.storage import Place, Storage, StorageError, place_of
from tests.bundles import scene, write_bundle
from tests.scripts.conftest import S3, plain, s3

__all__ = ["plain", "s3"]
ROOT = Path(__file__).parents[2]
PLATES = ("GE65432", "ZH123456", "BE1", "VD777", "JU4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("parts") / "bundle")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``photos`` of the current one: seven images, two of which cannot be read."""
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for i, text in enumerate(PLATES):
        cv2.imwrite(str(folder / "a" / f"{i}.png"), scene(text))
    (folder / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (folder / "zero.jpeg").write_bytes(b"")
    (folder / "notes.txt").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    # Tasks in this process: what other processes do is in tests/engine.
    monkeypatch.setattr("src.core.machine.available_cores", lambda: 1)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def read(model: Path, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--model", str(model)])


def test_the_fields_are_those_of_json(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(model, photos, "--json", "--alternatives", "2") == 1
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert read(model, "photos", "--out", "out", "--part-size", "3", "--alternatives", "2") == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert "7 images are in out; 2 of them could not be read." in errors
    assert f"1 file was not read, as its name is not that of an image: {photos}/notes.txt" in errors
    names = [MANIFEST, "_manifest.parquet", SUCCESS, *(f"part-0000{i}.parquet" for i in range(3))]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(names)
    rows = pq.read_table("out").to_pylist()
    assert [
        {name: value for name, value in row.items() if value is not None} for row in rows
    ] == expected
    assert sum(row["error"] is not None for row in rows) == 2
    assert json.loads(Path("out", SUCCESS).read_text()) == {"images": 7, "errors": 2}


def test_only_what_is_missing_is_read_again(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(model, photos, "--out", "whole", "--part-size", "2") == 1
    assert read(model, photos, "--out", "out", "--part-size", "2") == 1
    Path("out", SUCCESS).unlink()
    Path("out", "part-00001.parquet").unlink()
    (photos / "later.png").write_bytes((photos / "a" / "0.png").read_bytes())
    written: list[int] = []
    write = PartWriter.write
    monkeypatch.setattr(
        PartWriter, "write", lambda self, part: written.append(part.number) or write(self, part)
    )
    assert read(model, photos, "--out", "out", "--part-size", "2") == 1
    assert written == [1]
    assert hashes(Path("out")) == hashes(Path("whole")), "and what came later is not read"
    written.clear()
    capsys.readouterr()
    assert read(model, photos, "--out", "out", "--part-size", "2") == 1
    assert not written
    errors = capsys.readouterr().err
    assert "is complete already" in errors
    assert "7 images are in out; 2 of them could not be read." in errors


def test_a_start_that_was_killed_is_made_again(model: Path, photos: Path) -> None:
    read(model, photos, "--out", "whole")
    Path("out").mkdir()
    Path("out", "_manifest.parquet").write_bytes(b"of another time")
    read(model, photos, "--out", "out")
    assert hashes(Path("out")) == hashes(Path("whole"))


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["photos/a"], "sources is"),
        (["photos", "--part-size", "3"], "part_size is 2 there, and 3 now"),
        (["photos", "--min-confidence", "0.5"], "settings is"),
        (["photos", "--search", "full"], "settings is"),
    ],
)
def test_results_of_something_else_are_refused(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], named: str, is_complete: bool,
) -> None:  # fmt: skip
    read(model, photos, "--out", "out", "--part-size", "2")
    if not is_complete:
        Path("out", SUCCESS).unlink()
    before = hashes(Path("out"))
    capsys.readouterr()
    given = [] if "--part-size" in arguments else ["--part-size", "2"]
    assert read(model, *arguments, *given, "--out", "out") == 1
    error = capsys.readouterr().err
    assert f"error: {Path('out').absolute()}: has the results of something else: " in error
    assert named in error
    assert "give another folder as --out" in error
    assert hashes(Path("out")) == before


def test_another_bundle_is_refused(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    read(model, photos, "--out", "out")
    other = write_bundle(tmp_path / "other", threshold=0.123)
    assert read(other, photos, "--out", "out") == 1
    assert "the bundle is another one" in capsys.readouterr().err


def test_a_folder_of_other_files_is_refused(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(model, photos, "--out", "photos") == 1
    assert "has other files, such as a. Give another folder as --out." in capsys.readouterr().err


def test_results_within_the_photos_are_not_searched(model: Path, photos: Path) -> None:
    read(model, photos, "--out", photos / "results" / "first")
    drawn = photos / "results" / "first" / "part.png"
    drawn.write_bytes((photos / "a" / "0.png").read_bytes())
    found = storage.find_images(
        [str(photos)], place_of(str(photos / "results" / "first")), storage.LeftOut()
    )
    assert str(drawn) not in {place.path for place, _ in found}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "ray"], "need --out DEST"),
        (["--part-size", "3"], "need --out DEST"),
        (["--out", "x", "--json"], "--out cannot be combined with --json and --draw"),
        (["--out", "x", "--cluster", "a:1"], "--cluster needs --engine ray"),
        (["--out", "x", "--part-size", "0"], "must be a whole number from 1"),
    ],
)
def test_options_that_do_not_fit_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["photos", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://a/b", "s3://", "s3://key:secret@bucket/photos"])
def test_a_url_of_another_kind_is_told(
    model: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(model, url, "--out", "out") == 1
    assert "expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX" in capsys.readouterr().err


def test_without_pyarrow_the_extra_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "src.read.storage")
    monkeypatch.delitem(sys.modules, "src.read.parts")
    assert read(model, "photos", "--out", "out") == 1
    assert "pip install 'swiss-plates[cluster]'" in capsys.readouterr().err


def test_a_name_of_other_bytes_is_a_row(model: Path, photos: Path) -> None:
    name = os.fsdecode(b"r\xe9sultat.png")
    (photos / name).write_bytes((photos / "a" / "0.png").read_bytes())
    assert read(model, photos, "--out", "out") == 1
    errors = pq.read_table("out", columns=["error"])["error"].to_pylist()
    assert any("its name is not UTF-8; rename the file" in str(error) for error in errors)


def test_one_machine_needs_no_ray(model: Path, photos: Path) -> None:
    code = (
        "import sys; from src.read.__main__ import main; "
        f"main(['photos/a/0.png', '--out', 'out', '--model', {str(model)!r}]); "
        "sys.exit('ray' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert Path("out", SUCCESS).exists()


# Object storage


@pytest.fixture
def bucket(s3: S3, photos: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A bucket with the photos, whose address the environment has."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    for path in photos.rglob("*.*"):
        s3.client.upload_file(str(path), s3.bucket, f"in/{path.relative_to(photos)}")
    return s3


def by_name(results: Path, prefix: str) -> dict[str, object]:
    """Rows of results by the part of their images' names behind a prefix."""
    rows = pq.read_table(results).to_pylist()
    for row in rows:
        for key in ("path", "error"):
            row[key] = row[key] and row[key].replace(prefix, "")
    return {row.pop("path"): row for row in rows}


def test_a_bucket_gives_what_the_folder_gives(
    model: Path, bucket: S3, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(model, photos, "--out", "local", "--part-size", "3")
    source, results = f"s3://{bucket.bucket}/in/", f"s3://{bucket.bucket}/out"
    assert read(model, source, "--out", results, "--part-size", "3") == 1
    errors = capsys.readouterr().err
    assert f"is not that of an image: {source}notes.txt" in errors
    names = [name for name in bucket.objects() if name.startswith("out/")]
    assert f"out/{SUCCESS}" in names
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in names:
        bucket.client.download_file(bucket.bucket, name, str(copy / Path(name).name))

    assert by_name(Path("local"), f"{photos}/") == by_name(copy, source)
    bucket.client.delete_object(Bucket=bucket.bucket, Key=f"out/{SUCCESS}")
    bucket.client.delete_object(Bucket=bucket.bucket, Key="out/part-00000.parquet")
    before = hashes(copy)
    assert read(model, source, "--out", results, "--part-size", "3") == 1
    for name in names:
        bucket.client.download_file(bucket.bucket, name, str(copy / Path(name).name))
    assert hashes(copy) == before


@pytest.fixture
def google_bucket(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a bucket with the photos, on a server that stands for Google's."""
    with create_server("127.0.0.1", 0, in_memory=True, default_bucket="photos") as server:
        host, port = server._api._httpd.server_address
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"{host}:{port}")
        for path in photos.rglob("*.*"):
            place_of(f"gs://photos/in/{path.relative_to(photos)}").write(path.read_bytes())
        yield "gs://photos"


def test_a_bucket_of_google_gives_what_the_folder_gives(
    model: Path, google_bucket: str, photos: Path, tmp_path: Path
) -> None:
    read(model, photos, "--out", "local", "--part-size", "3")
    results = f"{google_bucket}/out"
    assert read(model, f"{google_bucket}/in", "--out", results, "--part-size", "3") == 1
    assert SUCCESS in place_of(results).names()

    names = [path.name for path in Path("local").glob("part-*")]
    assert len(names) > 1
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in names:
        (copy / name).write_bytes((place_of(results) / name).read())
    assert by_name(Path("local"), f"{photos}/") == by_name(copy, f"{google_bucket}/in/")
    gone = place_of(f"{google_bucket}/in/gone.png")
    with pytest.raises(FileNotFoundError):
        gone.read()


def test_an_object_that_is_gone_is_a_row_and_an_outage_is_an_error(
    model: Path, bucket: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = place_of(f"s3://{bucket.bucket}/in/a/0.png")
    writer = PartWriter(
        PlateReader.load(model, threads=1),
        Settings(min_confidence=None, alternatives=0, search="standard"),
        place_of(str(tmp_path)),
    )
    assert writer._read(parts.Image(place)).is_read
    gone = writer._read(parts.Image(place_of(f"s3://{bucket.bucket}/in/gone.png")))
    assert not gone.is_read
    assert f"s3://{bucket.bucket}/in/gone.png: cannot be read (FileNotFoundError" in str(gone.error)
    away = Place(Storage("s3", "http://127.0.0.1:9", "us-east-1"), place.path, "s3://")
    with pytest.raises(StorageError, match="cannot be fetched"):
        writer._read(parts.Image(away))


def test_a_missing_bucket_and_an_empty_prefix_are_told(
    model: Path, bucket: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in (f"s3://{bucket.bucket}-not/in", f"s3://{bucket.bucket}/empty"):
        assert read(model, source, "--out", "out") == 1
        assert f"error: {source}: " in capsys.readouterr().err
        assert not Path("out").exists()


def test_a_source_without_images_beside_others_is_told(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos.parent / "none").mkdir()
    assert read(model, photos, "none", "--out", "out") == 1
    assert "none: has no images" in capsys.readouterr().err
    assert pq.read_table("out")["error"].to_pylist()[-1] == f"{photos.parent}/none: has no images"


def test_storage_that_a_worker_does_not_see_is_told(model: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="storage that all of them share"):
        storage.check_shared(place_of(str(tmp_path / "elsewhere")), MANIFEST)


def test_processes_write_the_same_bytes(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(model, photos, "--out", "one", "--part-size", "2")
    monkeypatch.setattr("src.core.machine.available_cores", lambda: 2)
    read(model, photos, "--out", "two", "--part-size", "2")
    assert hashes(Path("one")) == hashes(Path("two"))
