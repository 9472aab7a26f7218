"""Resumable downloads: to `<file>.part`, continued by HTTP Range, verified, then renamed.

Beside each file its SHA-256 is recorded, as `sha256sum -c` reads it, so that a file whose publisher gives no checksum
can be compared with later downloads. A file with such a record is not read again.
"""

import hashlib
import http.client
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from molformer.data.datasets.dataset import RemoteFile
from molformer.data.drafts import writing
from molformer.errors import InputError

Progress = Callable[[int, int | None], None]  # callback with the number of downloaded bytes, and the total if known

_BLOCK = 1 << 20
_AGENT = "Mozilla/5.0 (compatible; molformer)"  # figshare rejects other user agents

logger = logging.getLogger(__name__)


class _Cut(Exception):
    """The connection ended before the file did."""


def download(
    remote: RemoteFile,
    folder: Path,
    progress: Progress | None = None,
    attempts: int = 5,
    pause: float = 2.0,
    timeout: float = 60.0,
) -> Path:
    """Download a file into a folder, unless it exists; a connection that was cut, or silent for `timeout` s, is taken
    up again after `pause` s, `attempts` times for each address.

    Raises:
        InputError: no address gives the file, it is not the one that was published, or it cannot be written.
    """
    target = folder / remote.filename
    if target.is_file() and _record(target).is_file():
        return target
    with writing(target):
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            _write_record(target, _check(target, remote), remote)
            return target
        part = target.with_name(target.name + ".part")
        reasons = []
        for url in remote.urls:
            reason = _from_url(url, part, remote, progress, attempts, pause, timeout)
            if not reason:
                break
            reasons.append(reason)
        else:
            raise InputError(
                f"cannot download '{remote.filename}': {'; '.join(reasons)}; try again to resume, or download it "
                "otherwise and name the file"
            )
        _keep(part, target, remote)
    return target


def place(remote: RemoteFile, file: Path, folder: Path) -> Path:
    """Copy a local file into a folder, after verification of its checksum.

    Raises:
        InputError: it is missing, not the one that was published, or cannot be copied.
    """
    target = folder / remote.filename
    try:
        folder.mkdir(parents=True, exist_ok=True)
        digest = _check(file, remote)
        if not (target.exists() and target.samefile(file)):
            copy = target.with_name(target.name + ".copy")
            shutil.copyfile(file, copy)
            os.replace(copy, target)
        _write_record(target, digest, remote)
    except OSError as error:
        raise InputError(f"cannot take '{file}' to '{folder}': {error.strerror or error}") from None
    return target


def _from_url(
    url: str, part: Path, remote: RemoteFile, progress: Progress | None, attempts: int, pause: float, timeout: float
) -> str:
    """Fill the part from one address; the reason why that failed, or nothing."""
    reason = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause)
        try:
            _resume(url, part, remote.size, progress, timeout)
            return ""
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"{url} answers {error.code} {error.reason}"
            if error.code == 416:  # the part is longer than the file: it belongs to another one
                part.unlink(missing_ok=True)
            elif error.code < 500:
                return reason
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            ssl.SSLError,
            _Cut,
        ) as error:
            reason = f"{url}: {getattr(error, 'reason', error) or type(error).__name__}"
    return reason


def _resume(url: str, part: Path, size: int | None, progress: Progress | None, timeout: float) -> None:
    start = part.stat().st_size if part.is_file() else 0
    if size is not None and start == size:
        return
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        whole = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status == 206 and whole and int(whole[1]) == start:
            total = int(whole[2]) if whole[2] != "*" else size
        elif answer.status == 200:  # the first attempt, or a server that knows no ranges
            start = 0
            total = int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else size
        else:
            raise _Cut(f"answers {answer.status} instead of the file")
        done = start
        with open(part, "ab" if start else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise _Cut(f"the connection was cut at {done} of {total} bytes")


def _keep(part: Path, target: Path, remote: RemoteFile) -> None:
    """Give a whole file its name, and record its checksum."""
    try:
        digest = _check(part, remote)
    except InputError:
        part.unlink()
        raise
    os.replace(part, target)
    _write_record(target, digest, remote)


def _write_record(target: Path, digest: str, remote: RemoteFile) -> None:
    _record(target).write_text(f"{digest}  {target.name}\n")
    if not remote.md5:
        logger.warning("no checksum of '%s' was published; its SHA-256 is %s", target, digest)


def _check(path: Path, remote: RemoteFile) -> str:
    """SHA-256 of a file, after a comparison with what was published."""
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() if remote.md5 else ""
    size = path.stat().st_size
    if not remote.md5 and remote.size not in (None, size):
        raise InputError(
            f"'{path}' has {size} bytes, the published '{remote.filename}' has {remote.size}; fetch it again"
        )
    if md5 != remote.md5:
        raise InputError(
            f"'{path}' is not the published '{remote.filename}': its md5 is {md5}, expected {remote.md5}; "
            "fetch it again"
        )
    return sha256


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")
