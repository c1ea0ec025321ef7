"""Addresses of Redis that nobody could use."""

import pytest
from pydantic import SecretStr

from darkroom.tasks.settings import SettingsInvalid, TaskSettings


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hush@host",
        "user:hush@host",
        "redis://user:hush@host/name",
        "redis://user:pass/hush@host/0",
        "redis://user:hush@[host/0",
        "redis://user:hush@ho\u2100st/0",
        "redis://host:hush/0",
        "redis://host/0#hush",
        "redis://host/0?password=hush",
        "redis+sentinel://user:hush@host",
        "redis+sentinel://host/master/0?password=hush",
    ],
)
def test_an_address_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^DARKROOM_REDIS_URL: ") as caught:
        TaskSettings(redis_url=SecretStr(url))
    assert "hush" not in str(caught.value)
