"""The buckets of bulk registration: names in the operator's table, for folders and for buckets of S3.

Files are read in threads of their bucket, so that a slow one delays no other, and none keeps the server from stopping.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from thingmint.domain.errors import Invalid, NotFound, Unavailable
from thingmint.services.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_THREADS = 2  # of one bucket
_TIMEOUT = 20.0  # seconds, of one call of a bucket, with its wait for a thread
_CONNECT_TIMEOUT = 3.0
_READ_TIMEOUT = 5.0
_KEY = "inputFileKey"
_NO_FILE = "must be the key of a file in the bucket"
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_SHORTER = frozenset({"416", "InvalidRange"})

_log = structlog.get_logger("thingmint.bulk")


@dataclass(frozen=True, slots=True)
class Folder:
    """Keys are paths below ``path``."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """Keys follow ``prefix``. Without ``credentials_file``, botocore looks for credentials."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    credentials_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """The accounts that may use a bucket, and where it is."""

    accounts: Sequence[str]
    place: Folder | S3Bucket


@dataclass(frozen=True, slots=True)
class InputFile:
    """``size`` is in bytes. ``version`` changes whenever the file changes."""

    size: int
    version: str


class _Reader(Protocol):
    """Methods for threads. They raise Invalid, which names the key, and Unavailable."""

    def look(self, key: str) -> InputFile: ...

    def read(self, key: str, start: int, length: int) -> tuple[InputFile, bytes]:
        """The file, and up to ``length`` of its bytes from ``start`` on, which is less than its size."""
        ...


class Buckets:
    """``buckets`` are by name. They can be replaced while the server runs."""

    def __init__(self, buckets: Mapping[str, Bucket] | None = None) -> None:
        self._buckets = buckets or {}
        self._readers: dict[Bucket, tuple[_Reader, DaemonThreads]] = {}

    def replace(self, buckets: Mapping[str, Bucket]) -> None:
        self._buckets = buckets
        for bucket in self._readers.keys() - set(buckets.values()):
            del self._readers[bucket]

    def close(self) -> None:
        self.replace({})

    async def look(self, account: str, name: str, key: str) -> InputFile:
        """Return a file. Raises NotFound for a bucket that the account has not, Invalid for the key, Unavailable."""
        return await self._call(account, name, lambda reader: reader.look(check_key(key)))

    async def read(self, account: str, name: str, key: str, start: int, length: int) -> tuple[InputFile, bytes]:
        """Return a file and some of its bytes. Raises what ``look`` does."""
        return await self._call(account, name, lambda reader: reader.read(check_key(key), start, length))

    async def _call(self, account: str, name: str, call: Callable[[_Reader], T]) -> T:
        bucket = self._buckets.get(name)
        if bucket is None or account not in bucket.accounts:
            raise NotFound("bucket", name)
        if bucket not in self._readers:
            self._readers[bucket] = _reader_of(bucket.place), DaemonThreads(_THREADS, f"bucket {name}")
        reader, threads = self._readers[bucket]
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await threads.run(lambda: call(reader))
        except TimeoutError:
            raise Unavailable("The bucket did not answer in time") from None
        except RuntimeError:
            raise Unavailable("The process has no thread left to read the bucket") from None


def _reader_of(place: Folder | S3Bucket) -> _Reader:
    return _FolderReader(place) if isinstance(place, Folder) else _S3Reader(place)


def check_key(key: str) -> str:
    """Return the key. Raises Invalid for one that could leave the bucket."""
    if any(segment in ("", ".", "..") for segment in key.split("/")) or "\0" in key:
        raise Invalid(_KEY, "must be names with single slashes between them, without . and ..")
    return key


class _FolderReader:
    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def look(self, key: str) -> InputFile:
        descriptor, file = self._open(key)
        os.close(descriptor)
        return file

    def read(self, key: str, start: int, length: int) -> tuple[InputFile, bytes]:
        descriptor, _ = self._open(key)
        try:
            content = os.pread(descriptor, length, start)
            return _described(os.fstat(descriptor)), content  # after the read, to notice a change during it
        except OSError as error:
            raise self._unreadable(error) from None
        finally:
            os.close(descriptor)

    def _open(self, key: str) -> tuple[int, InputFile]:
        """Open a regular file, and follow no symbolic link below the folder: each name is opened in its directory."""
        *directories, name = key.split("/")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
        try:
            at = os.open(self._folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from None
        try:
            for directory in directories:
                below = os.open(directory, flags | os.O_DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                raise Invalid(_KEY, _NO_FILE)  # before it is opened: opening a device can have effects
            descriptor = os.open(name, flags | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            if error.errno in _IS_NOT_THERE:
                raise Invalid(_KEY, _NO_FILE) from None
            raise self._unreadable(error) from None  # of the disk or of this process, and it may pass
        finally:
            os.close(at)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise Invalid(_KEY, _NO_FILE)
        return descriptor, _described(found)

    def _unreadable(self, error: OSError) -> Unavailable:
        _log.warning("bulk_folder_unreadable", folder=str(self._folder.path), error=error.strerror)
        return Unavailable("The bucket cannot be read; the server's log has the reason")


def _described(found: os.stat_result) -> InputFile:
    return InputFile(found.st_size, f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}")


_IS_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
"""The errors of a key that names no file of the folder. ELOOP is that of a link, which is not followed."""


class _S3Reader:
    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._client: Any = None

    def look(self, key: str) -> InputFile:
        found = self._call("head_object", key)
        return InputFile(found["ContentLength"], found["ETag"])

    def read(self, key: str, start: int, length: int) -> tuple[InputFile, bytes]:
        from botocore.exceptions import BotoCoreError

        found = self._call("get_object", key, Range=f"bytes={start}-{start + length - 1}")
        if "ContentRange" in found:
            size = int(found["ContentRange"].rpartition("/")[2])
        elif start == 0:  # the server knows no ranges
            size = found["ContentLength"]
        else:
            raise self._unreadable("it does not read parts of files")
        try:
            body = found["Body"].read(length)
        except (BotoCoreError, OSError) as error:
            raise self._unreadable(type(error).__name__) from None
        finally:
            found["Body"].close()
        if len(body) < min(length, size - start):
            raise self._unreadable("the connection ended early")
        return InputFile(size, found["ETag"]), body

    def _call(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            call = getattr(self._connected(), operation)
            found: dict[str, Any] = call(Bucket=self._bucket.bucket, Key=f"{self._bucket.prefix}{key}", **arguments)
            return found
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _GONE:
                raise Invalid(_KEY, _NO_FILE) from None
            if code in _SHORTER:
                return {"ContentLength": 0, "ETag": "", "Body": io.BytesIO()}
            raise self._unreadable(code) from None
        except (BotoCoreError, OSError, ValueError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def _new_client(self) -> Any:
        import botocore.session
        from botocore.config import Config
        from botocore.credentials import SharedCredentialProvider

        session = botocore.session.Session()
        if (file := self._bucket.credentials_file) is not None:
            found = SharedCredentialProvider(str(file)).load()
            if found is None:
                raise ValueError(f"{file} has no credentials under [default]")
            session.set_credentials(found.access_key, found.secret_key, found.token)
        return session.create_client(
            "s3",
            region_name=self._bucket.region,
            endpoint_url=self._bucket.endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                connect_timeout=_CONNECT_TIMEOUT,
                read_timeout=_READ_TIMEOUT,
                s3={"addressing_style": "path"} if self._bucket.endpoint_url is not None else None,
            ),
        )

    def _unreadable(self, why: str) -> Unavailable:
        _log.warning("bulk_bucket_unreadable", bucket=self._bucket.bucket, error=why)
        return Unavailable("The bucket cannot be read; the server's log has the reason")
