"""The task API's settings: environment variables with the prefix DARKROOM_, read here and nowhere else."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DAY = 24 * 3600


class TaskSettings(BaseSettings):
    """What a producer needs; times in seconds. The worker reads the same."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_", extra="ignore", frozen=True)

    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="redis:// or rediss:// with user, password and db"
    )
    redis_prefix: str = Field(default="darkroom:", description="put before every key")
    redis_timeout: float = Field(default=1.5, gt=0, le=60, description="seconds a command may take")
    default_model: str | None = Field(
        default=None, description="for requests that name none; without it the only model that is served"
    )
    record_ttl: int = Field(default=7 * DAY, ge=60, description="seconds a job is kept after its end")
    idempotency_ttl: int = Field(default=DAY, ge=60, description="seconds an idempotency key is kept")
