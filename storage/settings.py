"""Storage's settings: environment variables with the prefix DARKROOM_, read here and nowhere else."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Addressing = Literal["auto", "path", "virtual"]


def _octal(value: object) -> object:
    """`0640` as it stands in a variable."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"0?6[0246]{2}", value):
        raise ValueError("write it as chmod does, such as 0640: read and write for the owner, nothing to execute")
    return int(value, 8)


class StorageSettings(BaseSettings):
    """Where objects lie, how S3 is reached, and what an input image may be."""

    # An empty variable counts as unset: that is how a compose file passes one on.
    # Errors do not repeat what stands in a variable: there are passwords in some.
    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    storage_url: str | None = Field(default=None, description="s3://bucket/prefix or file:///folder")
    storage_mode: Annotated[int, BeforeValidator(_octal)] = Field(
        default=0o640, ge=0o600, le=0o666, description="of files in a folder, octal; folders can be entered as well"
    )

    s3_endpoint_url: str | None = Field(default=None, description="another S3 than Amazon's, such as http://s3:7070")
    s3_public_endpoint_url: str | None = Field(
        default=None, description="the endpoint in links, where readers know the server by another name"
    )
    s3_region: str | None = Field(default=None, description="boto3's own settings, and us-east-1 beside an endpoint")
    s3_access_key_id: str | None = Field(default=None, description="none: boto3's own chain (profile, role, ...)")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="belongs to the access key")
    s3_addressing: Addressing = Field(
        default="auto", description="bucket in the path or the host name; auto: path beside an endpoint"
    )
    s3_connect_timeout: float = Field(default=5.0, gt=0, description="seconds")
    s3_read_timeout: float = Field(default=30.0, gt=0, description="seconds without a byte")
    s3_attempts: int = Field(default=3, ge=1, le=10, description="tries of one call in all")

    input_max_bytes: int = Field(default=20_000_000, gt=0, description="bytes of an input image")
    input_data_url_max_bytes: int = Field(default=200_000, gt=0, description="bytes in a data: URL, decoded")
    input_max_pixels: int = Field(default=40_000_000, gt=0, description="width times height of an input image")
    input_latents_max_bytes: int = Field(default=8_000_000, gt=0, description="bytes of latents or embeddings")
    input_archive_max_bytes: int = Field(default=500_000_000, gt=0, description="bytes of a data set, packed or not")
    input_timeout: float = Field(default=30.0, gt=0, description="seconds that fetching an https: URL may take in all")

    @field_validator("s3_endpoint_url", "s3_public_endpoint_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:  # it may repeat the URL
                fits = False
            if not fits or "@" in parts.netloc or parts.query or parts.fragment:
                msg = "must be http://host:port or https://host:port, without user, query or fragment"
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _key_and_secret_together(self) -> "StorageSettings":
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            msg = "s3_access_key_id and s3_secret_access_key are given together or not at all"
            raise ValueError(msg)
        return self
