"""The task API's settings: environment variables with the prefix DARKROOM_, read here and nowhere else."""

import logging
from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from darkroom.tasks.addresses import check_address
from darkroom.tasks.errors import SettingsInvalid
from darkroom.tasks.misspelt import misspelt

DAY = 24 * 3600


class Settings(BaseSettings):
    """Base of a package's settings. Raises SettingsInvalid, which names every variable at fault."""

    # An empty variable counts as unset: that is how a compose file passes one on.
    # Errors do not repeat what stands in a variable: there are passwords in some.
    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _faults_are_ours(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise SettingsInvalid(_faults(error)) from None


class TaskSettings(Settings):
    """What a producer needs; times in seconds. The worker reads the same."""

    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://user:password@host:port/db; rediss:// over TLS; redis+sentinel://host,host/master/db",
    )
    redis_prefix: str = Field(default="darkroom:", description="put before every key")
    redis_timeout: float = Field(default=1.5, gt=0, le=60, description="seconds a command may take")
    redis_connections: int = Field(
        default=16, ge=1, le=10_000, description="that the calls of one client share; more calls wait for a free one"
    )
    default_model: str | None = Field(
        default=None, description="for requests that name none; without it the only model that is served"
    )
    record_ttl: int = Field(default=7 * DAY, ge=60, le=3650 * DAY, description="seconds a job is kept after its end")
    idempotency_ttl: int = Field(default=DAY, ge=60, le=3650 * DAY, description="seconds an idempotency key is kept")
    job_ttl: int = Field(default=30 * DAY, ge=60, le=3650 * DAY, description="seconds after which a job has ended")
    batch_open_secs: float = Field(
        default=DAY, ge=1, le=3650 * DAY, description="seconds after its newest job after which a batch is ended"
    )
    queue_limit: int = Field(default=1_000_000, ge=1, description="jobs that may wait in one lane of a model")
    max_attempts: int = Field(default=3, ge=1, description="tries of a job whose failures may pass by themselves")
    max_losses: int = Field(default=2, ge=1, description="workers that may die over a job before it is given up")
    retry_seconds: float = Field(default=2.0, gt=0, description="until the first retry; the next waits four times that")

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr) -> SecretStr:
        check_address(value.get_secret_value())
        return value


def read_settings() -> TaskSettings:
    """Those of the environment. Variables that look misspelt are told of in the log (a warning could be an error)."""
    for variable, near in misspelt(TaskSettings):
        logging.getLogger(__name__).warning("%s is no setting of Darkroom's; %s is", variable, near)
    return TaskSettings()


def _faults(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    named = [(str(next(iter(item["loc"]), "")).upper(), item["msg"].removeprefix("Value error, ")) for item in found]
    return "; ".join(f"DARKROOM_{name}: {message}" for name, message in named)
