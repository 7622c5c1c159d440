"""Images of a report go to a branch of a real remote, and the comment links them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from src.report import publish as module
from src.report.__main__ import REPORT
from src.report.publish import COMMENT, LONGEST, PublishError, publish, web_address
from tests.report.test_report import commit, git

LINKED = "# Better\n\n![curve](a.png) ![image](b.png)\n\n![elsewhere](https://example.org/c.png)\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a remote, a commit and a report; it is the current folder. Gives the remote."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/plates")
    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", str(remote))
    Path("code.py").write_text("1")
    Path(".gitignore").write_text("report/\n")
    commit("first")
    Path("report").mkdir()
    Path("report", REPORT).write_text(LINKED)
    Path("report/a.png").write_bytes(b"first image")
    Path("report/b.png").write_bytes(b"second image")
    return remote


def on_branch(remote: Path, *arguments: str) -> str:
    return git("--git-dir", str(remote), *arguments)


def test_the_comment_links_what_was_pushed(repository: Path) -> None:
    head = git("rev-parse", "HEAD")
    Path("code.py").write_text("2")
    git("add", "code.py")
    comment = publish(Path("report"))
    assert comment == Path("report", COMMENT)
    pushed = on_branch(repository, "rev-parse", "reports")
    files = on_branch(repository, "ls-tree", "-r", "--name-only", "reports").splitlines()
    assert files == [f"{head}/a.png", f"{head}/b.png"]
    assert on_branch(repository, "show", f"reports:{head}/b.png") == "second image"
    text = comment.read_text()
    address = f"https://github.example/owner/plates/raw/{pushed}/{head}"
    assert f"![curve]({address}/a.png)" in text
    assert f"![image]({address}/b.png)" in text
    assert "(https://example.org/c.png)" in text
    # Neither the branch, nor the index, nor the report has changed.
    assert git("status", "--short") == "M  code.py"
    assert Path("report", REPORT).read_text() == LINKED


def test_a_report_that_is_too_long_for_a_comment(repository: Path) -> None:
    def folded(title: str, size: int) -> str:
        return f"<details><summary>{title}</summary>\n\n{'x' * size}\n\n</details>\n\n"

    text = "# Better\n\n" + folded("small", 10) + folded("huge", LONGEST) + folded("last", 20)
    Path("report", REPORT).write_text(text)
    comment = publish(Path("report")).read_text()
    assert len(comment) < LONGEST
    assert comment.startswith("# Better\n\n" + folded("small", 10) + folded("last", 20))
    assert "huge" not in comment
    assert "Too long for a comment: 1 of 3 parts are left out. report.md, " in comment
    assert Path("report", REPORT).read_text() == text


def test_images_of_earlier_reports_stay(repository: Path) -> None:
    first = git("rev-parse", "HEAD")
    publish(Path("report"))
    Path("code.py").write_text("2")
    commit("second")
    Path("report/a.png").write_bytes(b"another image")
    publish(Path("report"))
    second = git("rev-parse", "HEAD")
    assert on_branch(repository, "show", f"reports:{first}/a.png") == "first image"
    assert on_branch(repository, "show", f"reports:{second}/a.png") == "another image"
    assert on_branch(repository, "rev-list", "--count", "reports") == "2"


def test_two_at_once(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one pushes between this one's look and its push, once."""
    real, left = module._git, ["--once"]

    def race(*arguments: str, **environment: str) -> str:
        if arguments[0] == "push" and left:
            left.clear()
            other = git("commit-tree", git("rev-parse", "HEAD^{tree}"), "-m", "other")
            real("push", "--quiet", "origin", f"{other}:refs/heads/reports")
        return real(*arguments, **environment)

    monkeypatch.setattr(module, "_git", race)
    publish(Path("report"))
    assert on_branch(repository, "rev-list", "--count", "reports") == "2"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://github.com/owner/plates.git", "https://github.com/owner/plates"),
        ("https://user:secret@github.com/owner/plates", "https://github.com/owner/plates"),
        ("git@github.com:owner/plates.git", "https://github.com/owner/plates"),
        ("ssh://git@git.example.org/owner/plates.git", "https://git.example.org/owner/plates"),
    ],
)
def test_the_address_follows_from_the_remote(
    repository: Path, monkeypatch: pytest.MonkeyPatch, url: str, address: str
) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY")
    git("remote", "set-url", "origin", url)
    assert web_address("origin") == address


def test_a_remote_without_an_address(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY")
    with pytest.raises(PublishError, match="set GITHUB_SERVER_URL"):
        publish(Path("report"))
    assert not Path("report", COMMENT).exists()


def test_without_a_report(repository: Path) -> None:
    Path("report", REPORT).unlink()
    with pytest.raises(PublishError, match=r"report/report\.md: cannot be read.*make report"):
        publish(Path("report"))


def test_a_remote_that_is_gone(repository: Path) -> None:
    git("remote", "set-url", "origin", f"{repository}.moved")
    with pytest.raises(PublishError, match="git ls-remote"):
        publish(Path("report"))
    assert not Path("report", COMMENT).exists()


def test_a_remote_that_refuses(repository: Path) -> None:
    hook = repository / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho no images here >&2\nexit 1\n")
    hook.chmod(0o700)
    with pytest.raises(PublishError, match="no images here"):
        publish(Path("report"))
    assert not Path("report", COMMENT).exists()
