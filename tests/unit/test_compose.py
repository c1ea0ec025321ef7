"""docker-compose.yml, ops/Dockerfile and .env.example, as far as they can be judged without Docker."""

import fnmatch
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
ROOT_SECRET = "DARKROOM_S3_ROOT_SECRET"
SECRETS = ["DARKROOM_REDIS_PASSWORD", ROOT_SECRET, "DARKROOM_S3_ACCESS_KEY_ID", "DARKROOM_S3_SECRET_ACCESS_KEY"]
WORKERS = ["worker", "worker-cpu"]

Service = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(TEXT)
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    found: dict[str, Service] = compose["services"]
    return found


@pytest.fixture(scope="module")
def running(services: dict[str, Service]) -> dict[str, Service]:
    """Those that go on: all but what has to end before another one starts."""
    once = {
        name
        for service in services.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert once == {"bucket"}
    return {name: service for name, service in services.items() if name not in once}


def variables() -> dict[str, str]:
    """Every variable that the file takes from outside, with what follows its name: `:?message` or `:-default`."""
    found = re.findall(r"(?<!\$)\$(?:\{(\w+)([^}]*)\}|(\w+))", TEXT)
    assert all(name for name, _, _ in found), "variables are written in braces"
    return {name: rest for name, rest, _ in found}


def test_valid_by_the_specification(compose: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "tests/unit/data/compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(compose)


def test_the_specification_would_notice(compose: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "tests/unit/data/compose-spec.json").read_text())
    wrong = {**compose, "services": {"s3": {"image": "x", "port": ["1:1"]}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(wrong)


def test_secrets_are_asked_for_and_never_made_up() -> None:
    for name, rest in variables().items():
        secret = any(word in name for word in ("PASSWORD", "KEY", "SECRET", "TOKEN"))
        assert secret == (name in SECRETS)
        assert rest.startswith(":?" if secret else ":-"), name
    for line in TEXT.splitlines():
        named = re.sub(r"\$\{[^}]*\}", "", line.partition("#")[0])
        if re.search(r"(?i)pass|secret|auth", named):
            assert re.search(r"\$\{\w+:\?|\$\$SECRET", line), line


def test_the_example_names_every_variable() -> None:
    example = (ROOT / ".env.example").read_text()
    required = re.findall(r"^([A-Z0-9_]+)=$", example, re.MULTILINE)
    optional = dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", example, re.MULTILINE))
    assert sorted(required) == sorted(SECRETS)
    assert optional == {name: rest[2:] for name, rest in variables().items() if name not in SECRETS}
    assert re.findall(r"^COMPOSE_PROFILES=(\w+)$", example, re.MULTILINE) == ["gpu"]


def test_ports_are_published_on_loopback_only(services: dict[str, Service]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in services.values())


def test_images_are_pinned(services: dict[str, Service]) -> None:
    for service in services.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z]+)?", service["image"]), service["image"]
    assert services["bucket"]["image"] == services["s3"]["image"]


def test_whatever_goes_on_running_is_watched(running: dict[str, Service]) -> None:
    for name, service in running.items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert service["restart"] == "unless-stopped"
        assert service["init"] is True
        assert re.fullmatch(r"\d+[sm]", service["stop_grace_period"])


def test_no_service_has_capabilities_or_can_gain_privileges(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
    assert services["valkey"]["user"] == "valkey"  # to become it from root takes capabilities
    assert {name for name, service in services.items() if service.get("read_only")} == {"bucket", "s3"}


def test_workers_wait_for_servers_that_answer(services: dict[str, Service]) -> None:
    for name in WORKERS:
        waits = services[name]["depends_on"]
        assert {other: how["condition"] for other, how in waits.items()} == {
            "valkey": "service_healthy",
            "s3": "service_healthy",
            "bucket": "service_completed_successfully",
        }


def test_both_workers_are_one_but_for_the_device(services: dict[str, Service]) -> None:
    gpu, cpu = (services[name] for name in WORKERS)
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert not cpu["deploy"]
    assert (gpu["profiles"], cpu["profiles"]) == (["gpu"], ["cpu"])
    apart = {"deploy", "profiles", "image", "environment"}
    assert {key: gpu[key] for key in gpu.keys() - apart} == {key: cpu[key] for key in cpu.keys() - apart}
    assert cpu["environment"] == {**gpu["environment"], "DARKROOM_DEVICE": "cpu"}


def test_workers_environment(services: dict[str, Service]) -> None:
    from darkroom.storage import StorageSettings

    environment = services["worker"]["environment"]
    assert services["worker"]["command"][:3] == ["darkroom", "worker", "--model"]
    assert services["worker"]["healthcheck"]["test"] == ["CMD", "darkroom", "health"]
    known = {f"DARKROOM_{name.upper()}" for name in StorageSettings.model_fields}
    assert environment.keys() - known == {"DARKROOM_REDIS_URL"}


def test_the_s3_servers_own_key_is_its_own_and_the_setup_jobs(services: dict[str, Service]) -> None:
    """Workers have another one, which that job makes: with it they reach their bucket alone."""
    holders = {name for name, service in services.items() if ROOT_SECRET in json.dumps(service)}
    assert holders == {"s3", "bucket"}
    server, setup, worker = (services[name]["environment"] for name in ("s3", "bucket", "worker"))
    assert (setup["ADMIN_ACCESS_KEY_ID"], setup["ADMIN_SECRET_ACCESS_KEY"]) == (
        server["ROOT_ACCESS_KEY_ID"],
        server["ROOT_SECRET_ACCESS_KEY"],
    )
    assert setup["KEY"] == worker["DARKROOM_S3_ACCESS_KEY_ID"] != server["ROOT_ACCESS_KEY_ID"]
    assert setup["SECRET"] == worker["DARKROOM_S3_SECRET_ACCESS_KEY"] != server["ROOT_SECRET_ACCESS_KEY"]
    assert worker["DARKROOM_STORAGE_URL"] == f"s3://{setup['BUCKET']}"
    assert services["bucket"]["depends_on"] == {"s3": {"condition": "service_healthy"}}
    command = services["s3"]["command"]
    folder = command[command.index("--iam-dir") + 1]  # without it the server knows its own key alone
    assert f"users:{folder}" in services["s3"]["volumes"]


#: Answers as `versitygw admin` of the image does, and notes what else it is told.
VERSITYGW = """#!/bin/sh
case $2 in
list-users) printf 'Account  Role  UserID  GroupID\n-------  ----  ------  -------\n%s\n' "$USERS" ;;
list-buckets) printf 'Bucket   Owner\n-------  ----\n%s\n' "$BUCKETS" ;;
*) echo "$@" >> "$TOLD" ;;
esac
"""


@pytest.mark.parametrize(
    ("users", "buckets", "told"),
    [
        ("", "", ["create-user", "create-bucket"]),
        ("web2  user  0  0", "web2      web2", ["create-user", "create-bucket"]),
        ("web  user  0  0", "pictures  web", ["update-user"]),
        ("web  user  0  0", "pictures  other", ["update-user", "change-bucket-owner"]),
        ("", "pictures", ["create-user", "change-bucket-owner"]),
    ],
    ids=["new", "others", "again", "another owner", "a folder without owner"],
)
def test_the_setup_job_makes_what_is_missing(
    services: dict[str, Service], tmp_path: Path, users: str, buckets: str, told: list[str]
) -> None:
    (tmp_path / "versitygw").write_text(VERSITYGW)
    (tmp_path / "versitygw").chmod(0o755)
    (command,) = services["bucket"]["command"]
    environment = {"BUCKET": "pictures", "KEY": "web", "SECRET": "hush", "USERS": users, "BUCKETS": buckets}
    environment |= {"TOLD": str(tmp_path / "told"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([*services["bucket"]["entrypoint"], command.replace("$$", "$")], env=environment, check=True)
    user = "--access web --secret hush --role user"
    bucket = "--bucket pictures --owner web"
    expected = [f"admin {verb} {user if verb.endswith('user') else bucket}" for verb in told]
    assert (tmp_path / "told").read_text().splitlines() == expected


def test_every_volume_is_declared_and_used(compose: dict[str, Any], services: dict[str, Service]) -> None:
    mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", [])]
    assert {source for source, _ in mounts} == set(compose["volumes"])
    assert ["models", "/models"] in mounts


DOCKERFILE = (ROOT / "ops/Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def test_base_image_is_pinned() -> None:
    bases = {line.split()[0] for line in instructions("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", bases.pop())


def test_the_worker_is_not_root() -> None:
    assert instructions("USER") == ["darkroom"]
    last_stage = DOCKERFILE.rpartition("\nFROM")[2]
    assert last_stage.index("USER darkroom") < last_stage.index("HEALTHCHECK")


def test_everything_is_installed_as_pinned() -> None:
    """From indexes that whoever builds chooses: none is named here."""
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)
    assert "://" not in "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))


def test_what_the_image_copies_is_there_to_copy() -> None:
    """Packages of pyproject.toml that nobody copies would be missing in the image alone."""
    copied = {name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]}
    with (ROOT / "pyproject.toml").open("rb") as file:
        folders = {path.split("/")[0] for path in tomllib.load(file)["tool"]["setuptools"]["package-dir"].values()}
    assert folders <= copied
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "*" in lines
    assert all((ROOT / name).exists() for name in copied - {"README.md"})
    assert not any(fnmatch.fnmatch(".env", line) for line in lines if line.startswith("!"))
