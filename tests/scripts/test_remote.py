"""make remote: what is tried, what is kept and where, and what is said of a remote that cannot be used."""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.config import Config

from scripts import remote
from tests.scripts.conftest import S3, call

Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """All that was printed since the last call."""

    def read() -> str:
        output = capsys.readouterr()
        return output.out + output.err

    return read


def _kept() -> dict[str, str]:
    config = Config(".dvc").load_one("local")
    assert config["core"]["remote"] == remote.NAME
    return dict(config["remote"][remote.NAME])


def test_keys_are_in_the_local_configuration_and_nowhere_else(
    project: Path, s3: S3, said: Said
) -> None:
    url = f"s3://{s3.bucket}/prefix"
    assert remote.main([url, "--endpoint", s3.url]) == 0
    output = said()
    assert f"The DVC remote is {url} at {s3.url}" in output
    assert _kept() == {
        "url": url,
        "endpointurl": s3.url,
        "region": "us-east-1",
        "access_key_id": s3.keys["AWS_ACCESS_KEY_ID"],
        "secret_access_key": s3.keys["AWS_SECRET_ACCESS_KEY"],
    }
    assert s3.objects() == [], "the file that was written to try is still there"
    secret = s3.keys["AWS_SECRET_ACCESS_KEY"]
    assert secret not in output
    holders = [
        path
        for path in project.rglob("*")
        if path.is_file() and secret in path.read_text("latin-1")
    ]
    assert holders == [project / ".dvc/config.local"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    call(project, "git", "add", "-A")
    assert call(project, "git", "status", "--short") == ""


def test_the_owner_alone_can_read_a_file_that_was_there(project: Path, plain: None) -> None:
    Path(".dvc/config.local").write_text("")
    Path(".dvc/config.local").chmod(0o644)
    assert remote.main([str(project.parent / "storage")]) == 0
    assert stat.S_IMODE(Path(".dvc/config.local").stat().st_mode) == 0o600


def test_kept_keys_serve_a_later_shell(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{s3.bucket}/prefix"
    assert remote.main([url, "--endpoint", s3.url]) == 0
    for name in remote.KEYS.values():
        monkeypatch.delenv(name)
    assert remote.main([url, "--endpoint", s3.url]) == 0
    assert _kept()["access_key_id"] == s3.keys["AWS_ACCESS_KEY_ID"]


def test_kept_keys_go_nowhere_else(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    assert remote.main([f"s3://{s3.bucket}/prefix", "--endpoint", s3.url]) == 0
    for name in remote.KEYS.values():
        monkeypatch.delenv(name)
    other = s3.url.replace("127.0.0.1", "localhost")
    for url, endpoint in ((f"s3://{s3.bucket}/prefix", other), ("s3://other/prefix", s3.url)):
        assert remote.main([url, "--endpoint", endpoint]) == 1
        assert "no credentials" in said()
    assert _kept()["endpointurl"] == s3.url, "what works is kept"


@pytest.mark.parametrize("why", ["GITHUB_ACTIONS", "AWS_SESSION_TOKEN"])
def test_keys_of_a_workflow_and_temporary_ones_are_not_kept(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setenv(why, "true")
    asked = remote.describe(f"s3://{s3.bucket}/prefix", s3.url)
    remote.save(asked)
    assert not asked.keys
    assert not _kept().keys() & remote.KEYS.keys()


def test_a_file_that_git_would_take_gets_no_keys(project: Path, s3: S3, said: Said) -> None:
    Path(".dvc/.gitignore").write_text("/cache\n")
    assert remote.main([f"s3://{s3.bucket}", "--endpoint", s3.url]) == 1
    assert "add /config.local to .dvc/.gitignore" in said()
    assert not Path(".dvc/config.local").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "signature"),
        ("AWS_ACCESS_KEY_ID", "AKIAWRONG", "does not exist in our records"),
    ],
)
def test_wrong_keys_are_told(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, said: Said,
    name: str, value: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(name, value)
    assert remote.main([f"s3://{s3.bucket}", "--endpoint", s3.url]) == 1
    output = said()
    assert "refused" in output
    assert message in output
    assert "Check the keys" in output
    assert not Path(".dvc/config.local").exists()


@pytest.mark.parametrize("value", [None, ""])
def test_no_keys_are_told(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, said: Said, value: str | None
) -> None:
    for name in remote.KEYS.values():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    assert remote.main([f"s3://{s3.bucket}", "--endpoint", s3.url]) == 1
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said()


@pytest.mark.parametrize("write", [True, False])
def test_a_missing_bucket_is_told(project: Path, s3: S3, write: bool) -> None:
    there, missing = remote.describe(f"s3://{s3.bucket}/a", s3.url), f"s3://{s3.bucket}-not"
    remote.check(there, write=write)
    with pytest.raises(remote.RemoteError, match=f"does not exist. Create {missing}, or"):
        remote.check(remote.describe(f"{missing}/a", s3.url), write=write)


def test_a_server_that_does_not_run_is_told(
    project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        asked = remote.describe(f"s3://{s3.bucket}", endpoint)
        with pytest.raises(remote.RemoteError, match=r"cannot be reached.*ENDPOINT is correct"):
            remote.check(asked)


def test_google_cloud_storage_is_an_extra(
    project: Path, plain: None, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dvc_gs", None)
    assert remote.main(["gs://plates/prefix"]) == 1
    assert "make gs" in said()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/keys/account.json")
    asked = remote.describe("gs://plates/prefix")
    assert asked.config() == {"url": "gs://plates/prefix", "credentialpath": "/keys/account.json"}


def test_another_cloud_needs_its_package(project: Path, plain: None, said: Said) -> None:
    assert remote.main(["azure://plates/prefix"]) == 1
    assert "Install dvc-azure into .venv" in said()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s3://key:secret@plates"], "set these in the environment"),
        (["s3:///prefix"], "does not name a bucket"),
        (["s3://plates", "--endpoint", "localhost:9000"], "must start with http"),
        (["ftp://plates/prefix"], "Unsupported URL type"),
        ([], "make remote URL="),
        ([""], "make remote URL="),
    ],
)
def test_a_wrong_address_is_told(
    project: Path, plain: None, said: Said, arguments: list[str], message: str
) -> None:
    assert remote.main(arguments) == 1
    assert message in said()
    assert not Path(".dvc/config.local").exists()


@pytest.mark.parametrize("url", ["../storage", "~/storage"])
def test_a_folder_is_a_remote(
    project: Path, plain: None, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    folder = project.parent / "storage"
    monkeypatch.setenv("HOME", str(project.parent))
    assert remote.main([url]) == 0
    assert _kept()["url"] == str(folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(remote.RemoteError, match="Create the folder"):
        remote.check(remote.describe("../nowhere"), write=False)


@pytest.mark.parametrize("arguments", [[""], ["s3://named"]])
def test_variables_name_a_remote_where_nothing_else_does(
    project: Path, plain: None, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("DVC_REMOTE_URL", "s3://of-variables")
    monkeypatch.setenv("DVC_REMOTE_ENDPOINT", "http://127.0.0.1:1")
    asked = remote.asked_for(arguments[0])
    assert asked is not None
    if arguments[0]:
        assert asked.config() == {"url": "s3://named"}
    else:
        assert asked.config() == {"url": "s3://of-variables", "endpointurl": "http://127.0.0.1:1"}


def test_elsewhere_it_says_where_it_belongs(
    tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    assert remote.main([str(tmp_path / "storage")]) == 1
    assert "in the root folder of the clone" in said()


def test_make_hands_over_what_a_shell_would_take_apart(project: Path, plain: None) -> None:
    """URL and ENDPOINT reach the script as they are, from the command line and the environment."""
    makefile = (Path(remote.__file__).parents[1] / "Makefile").read_text()
    recipe = makefile.split("\nremote: setup", 1)[1].split("\n\n", 1)[0].partition("\n")[2]
    Path("Makefile").write_text(f"remote:\n{recipe}\n")
    Path("scripts").mkdir()
    Path("scripts/__init__.py").touch()
    Path("scripts/remote.py").write_text("import sys\nprint(sys.argv[1:])\n")
    url = "s3://plates/a b; echo c `echo d` $$(echo e) '"
    plainly = url.replace("$$", "$")
    expected = f"{[plainly, '--endpoint', 'http://x']}\n"
    assert call(project, "make", "remote", f"URL={url}", "ENDPOINT=http://x") == expected
    assert call(project, "make", "remote", URL=plainly, ENDPOINT="http://x") == expected
    assert call(project, "make", "remote", **dict.fromkeys(("URL", "ENDPOINT"), "")) == (
        f"{['', '--endpoint', '']}\n"
    )
