"""Set up the DVC remote of this clone: ``make remote URL=s3://bucket/prefix [ENDPOINT=http://...]``.

The remote is tried first: a file is written, read and removed. Then it becomes the default remote, under
the name "storage", in .dvc/config.local. That file is never committed, and only its owner can read it.
It also gets the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, so that later shells need no
variables. In a GitHub workflow, and where the keys are temporary, they stay in the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.fs import get_cloud_fs

from src.core.errors import UserError

NAME = "storage"
LOCAL = Path(".dvc/config.local")
KEYS = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"}
"""DVC's settings of an S3 remote, and the environment variables that hold them."""
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}
_UNREACHABLE = {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"}


class RemoteError(UserError):
    """The remote cannot be set up or used; the message says what to do."""


class NoCredentialsError(RemoteError):
    """There are no credentials at all."""


@dataclass(frozen=True)
class Remote:
    """A remote as DVC's configuration describes it.

    Attributes:
        url: Bucket with a prefix, or a folder.
        settings: Other settings of DVC, without secrets.
        keys: Keys kept with the remote; empty where the environment or the machine has them.
    """

    url: str
    settings: dict[str, Any]
    keys: dict[str, str]

    def __str__(self) -> str:
        """Return the URL and the endpoint, never a key."""
        endpoint = self.settings.get("endpointurl")
        return f"{self.url} at {endpoint}" if endpoint else self.url

    @property
    def bucket(self) -> str:
        """Bucket without the prefix, or the whole path of a folder."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else self.url

    def config(self) -> dict[str, Any]:
        """Return the entries for DVC's configuration."""
        return {"url": self.url, **self.settings, **self.keys}


def describe(url: str, endpoint: str = "") -> Remote:
    """Return the requested remote, with the settings that the environment adds.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, another URL that DVC supports, or a folder.
        endpoint: Address of a server other than the cloud's own.

    Raises:
        RemoteError: The address is invalid.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise RemoteError(
            "the URL contains a user name or a key; set these in the environment instead"
        )
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise RemoteError(f"{endpoint}: an endpoint must start with http:// or https://")
    if not parts.scheme:
        return Remote(str(Path(url).expanduser().resolve()), {}, {})
    if not parts.netloc:
        raise RemoteError(f"{url}: does not name a bucket; write s3://bucket/prefix")
    settings: dict[str, Any] = {"endpointurl": endpoint} if endpoint else {}
    if parts.scheme == "gs" and (file := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")):
        settings["credentialpath"] = file
    if parts.scheme != "s3":
        return Remote(url, settings, {})
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        settings["region"] = region
    keys = {setting: os.environ.get(variable, "") for setting, variable in KEYS.items()}
    if in_workflow() or os.environ.get("AWS_SESSION_TOKEN"):
        return Remote(url, settings, {})
    return Remote(url, settings, keys if all(keys.values()) else _kept_keys(url, endpoint))


def in_workflow() -> bool:
    """Return whether this is a GitHub workflow, whose machine must not keep keys."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _kept_keys(url: str, endpoint: str) -> dict[str, str]:
    """Return the keys that an earlier call kept for the same address: they must go to no other."""
    before = Config.from_cwd()["remote"].get(NAME, {})
    if (before.get("url"), before.get("endpointurl", "")) != (url, endpoint):
        return {}
    return {setting: before[setting] for setting in KEYS if setting in before}


def configured() -> Remote | None:
    """Return the default remote of this clone, if there is one."""
    config = Config.from_cwd()
    name = config["core"].get("remote")
    settings = dict(config["remote"].get(name, {}))
    if not settings:
        return None
    keys = {setting: settings.pop(setting) for setting in KEYS if setting in settings}
    return Remote(settings.pop("url"), settings, keys)


def check(remote: Remote, write: bool = True) -> None:
    """Check whether a remote can be used.

    Args:
        remote: Remote to check.
        write: Whether to write a file too, read it and remove it.

    Raises:
        NoCredentialsError: There are no credentials.
        RemoteError: The remote cannot be used; the message says why, and what to do.
    """
    try:
        kind, settings, path = get_cloud_fs({}, **remote.config())
        files = kind(**settings)
        if write:
            _try_to_write(files, path)
        else:
            _try_to_list(files, path)
    # Each cloud raises its own errors, defined in packages that may not be installed.
    except Exception as error:
        raise _explained(error, remote) from error


def _try_to_write(files: Any, folder: str) -> None:
    content = uuid.uuid4().hex
    path = files.join(folder, f".write-check-{content}")
    files.makedirs(folder, exist_ok=True)
    with files.open(path, "wb") as stream:
        stream.write(content.encode())
    with files.open(path, "rb") as stream:
        if stream.read() != content.encode():
            raise OSError(f"{path} has different content than was written")
    # A remote that does not allow removal can be used as well.
    with contextlib.suppress(PermissionError):
        files.remove(path)


def _try_to_list(files: Any, folder: str) -> None:
    try:
        files.ls(folder, detail=False)
    except FileNotFoundError:
        if files.protocol == "local":
            raise
        # Nothing has been pushed yet, or there is no such bucket.
        files.ls(folder.partition("/")[0], detail=False)


def _explained(error: Exception, remote: Remote) -> RemoteError:
    kind, scheme = type(error).__name__, urlsplit(remote.url).scheme
    if isinstance(error, ImportError):
        return RemoteError(f"{remote}: {error}. {_installation(scheme)}")
    if kind in _NO_CREDENTIALS:
        hint = (
            " and ".join(KEYS.values()) if scheme == "s3" else "the variables of the cloud provider"
        )
        return NoCredentialsError(f"{remote}: no credentials found: {error}. Set {hint}.")
    if kind in _UNREACHABLE or isinstance(error, ConnectionError):
        return RemoteError(
            f"{remote}: cannot be reached: {error}. Check that it is running and ENDPOINT is correct."
        )
    if isinstance(error, PermissionError):
        what = "Check the keys and that they may list" if scheme else "Make sure that you may read"
        return RemoteError(f"{remote}: access refused: {error} {what} and write there.")
    if isinstance(error, FileNotFoundError):
        what = f"Create {remote.bucket}" if scheme else "Create the folder"
        return RemoteError(f"{remote}: {error}. {what}, or use another URL.")
    return RemoteError(f"{remote}: {error}")


def _installation(scheme: str) -> str:
    if scheme == "gs":
        return "Run `make gs`."
    return f"Install dvc-{scheme} into .venv."


def save(remote: Remote) -> None:
    """Make a remote the default of this clone, in a file that is never committed.

    Raises:
        RemoteError: This is no clone, or Git would track the file.
    """
    if not LOCAL.parent.is_dir():
        raise RemoteError("there is no .dvc here; run this command in the root folder of the clone")
    ignored = subprocess.run(["git", "check-ignore", "-q", str(LOCAL)], check=False).returncode
    if ignored == 1:
        raise RemoteError(f"Git does not ignore {LOCAL}; add /config.local to .dvc/.gitignore")
    LOCAL.touch(mode=0o600)
    LOCAL.chmod(0o600)
    try:
        with Config(str(LOCAL.parent)).edit("local") as config:
            config["core"]["remote"] = NAME
            config["remote"][NAME] = remote.config()
    except DvcException as error:
        raise RemoteError(f"{LOCAL}: {error}") from error


def asked_for(url: str = "", endpoint: str = "") -> Remote | None:
    """Return the given remote or, without one, that of DVC_REMOTE_URL and DVC_REMOTE_ENDPOINT.

    Raises:
        RemoteError: The address is invalid.
    """
    if not url:
        url = os.environ.get("DVC_REMOTE_URL", "")
        endpoint = endpoint or os.environ.get("DVC_REMOTE_ENDPOINT", "")
    return describe(url, endpoint) if url else None


def main(arguments: list[str] | None = None) -> int:
    """Try a remote, save it and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.remote", description="Set up the DVC remote of this clone."
    )
    parser.add_argument(
        "url", nargs="?", default="", help="bucket or folder (default: DVC_REMOTE_URL)"
    )
    parser.add_argument(
        "--endpoint", default="", metavar="URL", help="address of an S3 server other than Amazon's"
    )
    options = parser.parse_args(arguments)
    try:
        remote = asked_for(options.url, options.endpoint)
        if remote is None:
            raise RemoteError(
                "no remote given: run `make remote URL=s3://bucket/prefix`, or set the variable "
                "DVC_REMOTE_URL (see docs/remote.md)"
            )
        check(remote)
        save(remote)
    except RemoteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    keys = f", with its keys in {LOCAL}" if remote.keys else ""
    print(f"The DVC remote is {remote}{keys}. `make push` and `make pull` use it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
