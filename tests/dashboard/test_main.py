"""The command: where it listens, what it hands on, and that it keeps a password to itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.dashboard import __main__ as module
from src.dashboard.settings import Settings
from src.serve import settings as server

SECRET = "sqlite:////folder/of-a-secret.db"  # noqa: S105  # of nobody


class ExecutedError(Exception):
    """In the place of the process that would begin."""


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The words and the variables of what the command becomes."""
    found: list[tuple[list[str], dict[str, str]]] = []

    def execve(_: str, words: list[str], variables: dict[str, str]) -> None:
        found.append((words, variables))
        raise ExecutedError

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(ExecutedError):
        module.main(list(arguments))
    return found[0]


def test_it_listens_on_this_machine_alone_and_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = started(monkeypatch)
    assert "--server.address=127.0.0.1" in words
    assert "--browser.gatherUsageStats=false" in words
    assert "--client.showErrorDetails=none" in words
    assert "--server.maxUploadSize=32" in words
    hosts = [word for word in words if "allowedHosts" in word]
    assert hosts == ["--server.allowedHosts=localhost", "--server.allowedHosts=127.0.0.1"]
    words, _ = started(monkeypatch, "--host", "0.0.0.0", "--port", "9999")  # noqa: S104  # to see it
    assert {"--server.address=0.0.0.0", "--server.port=9999"} <= set(words)
    assert not [word for word in words if "allowedHosts" in word], "nobody could reach it"


def test_the_pages_know_what_the_command_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--feedback", SECRET, "--feedback-days", "7", "--max-side", "100")
    words, variables = started(monkeypatch, *arguments, "--server", "http://there:80")
    assert SECRET not in " ".join(words), "everybody on the machine sees it"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.feedback is not None
    assert settings.feedback.get_secret_value() == SECRET
    assert (settings.feedback_days, settings.max_side) == (7, 100)
    assert str(settings.server) == "http://there/"
    assert settings.model == Path(variables["PLATES_MODEL"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "0"), "--port (PLATES_PORT)"),
        (("--server", "ftp://there"), "--server (PLATES_SERVER)"),
        (("--feedbak", SECRET), "--feedbak"),
        (("--max-body-mib", SECRET), "--max-body-mib (PLATES_MAX_BODY_MIB)"),
    ],
)
def test_what_is_wrong_is_told_without_a_password(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        module.main(list(arguments))
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert SECRET not in error


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATES_FEEDBACK", "")
    assert Settings().feedback is None


def test_limits_are_the_servers() -> None:
    ours, theirs = Settings.model_fields, server.Settings.model_fields
    same = ("max_body_mib", "max_pixels", "max_side", "max_feedback_mib")
    assert all(ours[name].default == theirs[name].default for name in same)
    # One variable means the same to both, but for what the server alone deletes.
    assert set(ours) - set(theirs) == {"server", "events"}
