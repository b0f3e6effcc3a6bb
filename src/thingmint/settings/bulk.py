"""The settings of bulk registration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator

from thingmint.http.memory import MIB
from thingmint.services.bulk_buckets import Bucket, Folder, S3Bucket
from thingmint.settings.tables import Table


def _bucket_url(url: str) -> str:
    parts = urlsplit(url)
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    is_bucket = parts.scheme == "s3" and bool(parts.hostname) and parts.username is None and parts.port is None
    if not (is_folder or is_bucket) or parts.query or parts.fragment:
        raise ValueError("must be file:///PATH, s3://BUCKET or s3://BUCKET/PREFIX")
    return url


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        raise ValueError("must be an http or https URL without a user name")
    return url.rstrip("/")


class BucketSettings(Table):
    """A bucket: where its files are, and whose it is."""

    url: Annotated[str, AfterValidator(_bucket_url)] = Field(
        description="Where the files are: file:///PATH for a folder, s3://BUCKET or s3://BUCKET/PREFIX.",
        examples=["file:///srv/bulk"],
    )
    accounts: list[Annotated[str, Field(pattern="^[0-9]{12}$")]] = Field(
        min_length=1,
        description="The accounts that may use the bucket. For others there is no such bucket.",
        examples=[["123456789012"]],
    )
    endpoint_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="The URL of a server with the API of S3. Without it, AWS.",
        examples=["https://s3.example.org"],
    )
    region: str | None = Field(
        default=None, min_length=1, description="The region of a bucket of S3.", examples=["eu-central-1"]
    )
    credentials_file: Path | None = Field(
        default=None,
        description="A file with the credentials for S3, in the form of ~/.aws/credentials, under [default]. Without "
        "it, the SDK of AWS looks for credentials in the environment.",
        examples=["/run/secrets/bulk-credentials"],
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> BucketSettings:
        if self.url.startswith("file:") and (self.endpoint_url or self.region or self.credentials_file):
            raise ValueError("endpoint_url, region and credentials_file are for s3:// only")
        return self

    def bucket(self) -> Bucket:
        parts, accounts = urlsplit(self.url), tuple(self.accounts)
        if parts.scheme == "file":
            return Bucket(accounts, Folder(Path(unquote(parts.path))))
        prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        place = S3Bucket(parts.netloc, prefix, self.endpoint_url, self.region, self.credentials_file)
        return Bucket(accounts, place)


class BulkSettings(Table):
    """The buckets and the reports of bulk registration."""

    buckets: dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{3,256}$")], BucketSettings] = Field(
        default={},
        description="The buckets that accounts can name, by names of your choice.",
        examples=['{fleet = {url = "file:///srv/bulk", accounts = ["123456789012"]}}'],
    )
    report_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="The beginning of the links to reports, if clients reach the API through another host or port.",
        examples=["https://iot.example.org"],
    )
    report_bytes: int = Field(
        default=4096 * MIB,
        ge=16 * MIB,
        description="The space for the reports of an account's finished tasks, and for those of its running task.",
    )

    def buckets_in_force(self) -> dict[str, Bucket]:
        return {name: each.bucket() for name, each in self.buckets.items()}


def bulk_in_force(given: BulkSettings | None) -> BulkSettings:
    return given or BulkSettings()
