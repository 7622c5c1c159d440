"""Who may start the pipeline, and which workflows follow a commit: asked of a stand-in for GitHub."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts import github

OURS = "owner/plates"
Output = pytest.CaptureFixture[str]


@dataclass
class GitHub:
    """Answers as GitHub does, and keeps what it was asked.

    Attributes:
        permission: of whoever is asked for.
        status: of all other answers.
        asked: method, path, token and content of each request.
    """

    permission: str = "write"
    status: int = 204
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    """A stand-in for GitHub, and a workflow that was started by "someone" on the branch main."""
    state = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(("GET", self.path, self.headers["Authorization"], None))
            body = json.dumps({"permission": state.permission}).encode()
            self._answer(200 if state.permission else 404, body)

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(("POST", self.path, self.headers["Authorization"], content))
            self._answer(state.status, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        variables = {
            "API_URL": f"http://127.0.0.1:{http.server_address[1]}",
            "REPOSITORY": OURS,
            "TOKEN": "token",
            "TRIGGERING_ACTOR": "someone",
            "REF_TYPE": "branch",
            "REF_NAME": "main",
            "EVENT_PATH": str(tmp_path / "event.json"),
        }
        for name, value in variables.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        _happens(tmp_path, {"inputs": {}})
        yield state
        http.shutdown()


def _happens(folder: Path, event: dict[str, Any]) -> None:
    (folder / "event.json").write_text(json.dumps(event))


def _labelled(repository: str | None) -> dict[str, Any]:
    head = {"ref": "faster", "repo": {"full_name": repository} if repository else None}
    return {"label": {"name": "run-pipeline"}, "pull_request": {"head": head}}


@pytest.mark.parametrize("permission", ["admin", "write"])
@pytest.mark.parametrize("event", [{"inputs": {}}, _labelled(OURS)])
def test_who_may_push_may_start(
    server: GitHub, tmp_path: Path, capsys: Output, permission: str, event: dict[str, Any]
) -> None:
    server.permission = permission
    _happens(tmp_path, event)
    assert github.main(["allowed"]) == 0
    assert "someone may push" in capsys.readouterr().out
    path = f"/repos/{OURS}/collaborators/someone/permission"
    assert server.asked == [("GET", path, "Bearer token", None)]


@pytest.mark.parametrize("permission", ["read", "none", ""])
@pytest.mark.parametrize("event", [{"inputs": {}}, _labelled(OURS)])
def test_nobody_else_may(
    server: GitHub, tmp_path: Path, capsys: Output, permission: str, event: dict[str, Any]
) -> None:
    """Triage is told as read; whom the repository does not know is an error of GitHub's."""
    server.permission = permission
    _happens(tmp_path, event)
    assert github.main(["allowed"]) == 1
    message = "may not push" if permission else "GitHub returned 404"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("origin", ["stranger/plates", None])
def test_code_of_a_fork_is_refused_whoever_asks(
    server: GitHub, tmp_path: Path, capsys: Output, origin: str | None
) -> None:
    server.permission = "admin"
    _happens(tmp_path, _labelled(origin))
    assert github.main(["allowed"]) == 1
    assert (origin or "a deleted fork") in capsys.readouterr().err


def test_a_name_is_no_part_of_a_path(server: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TRIGGERING_ACTOR", "../x?y")
    github.main(["allowed"])
    assert server.asked[0][1] == f"/repos/{OURS}/collaborators/..%2Fx%3Fy/permission"


@pytest.mark.parametrize("head", ["", "faster/reader"])
def test_workflows_are_started_on_the_branch(
    server: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: Output, head: str
) -> None:
    """Of a pull request that is its head's; GITHUB_REF_NAME is then 12/merge."""
    if head:
        monkeypatch.setenv("GITHUB_HEAD_REF", head)
        monkeypatch.setenv("GITHUB_REF_NAME", "12/merge")
    branch = head or "main"
    assert github.main(["start", "ci.yml", "mlops.yml"]) == 0
    assert capsys.readouterr().out == f"Started on {branch}: ci.yml, mlops.yml.\n"
    assert server.asked == [
        (
            "POST",
            f"/repos/{OURS}/actions/workflows/{file}/dispatches",
            "Bearer token",
            {"ref": branch},
        )
        for file in ("ci.yml", "mlops.yml")
    ]


def test_a_refusal_is_an_error(server: GitHub, capsys: Output) -> None:
    server.status = 403
    assert github.main(["start", "ci.yml"]) == 1
    assert "GitHub returned 403" in capsys.readouterr().err


def test_a_tag_is_no_branch(
    server: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    assert github.main(["start", "ci.yml"]) == 1
    assert "start it on one" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize("name", ["GITHUB_REPOSITORY", "GITHUB_TOKEN"])
def test_elsewhere_it_says_where_it_belongs(
    server: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: Output, name: str
) -> None:
    monkeypatch.setenv(name, "")
    assert github.main(["allowed"]) == 1
    assert f"{name} is not set" in capsys.readouterr().err


def test_without_github_it_says_so(
    server: GitHub, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    assert github.main(["allowed"]) == 1
    assert "cannot be reached" in capsys.readouterr().err
