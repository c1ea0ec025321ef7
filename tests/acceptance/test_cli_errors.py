"""What every command has in common: errors, exit codes, global options, and how little is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.cli.demo.server import LocalServer
from tests.acceptance.conftest import MODEL, Call, Installation

HEAVY = ("torch", "diffusers", "transformers", "celery", "boto3", "PIL", "numpy", "structlog")
PROBE = """
import sys
{before}
from darkroom.cli.app import run
code = run({arguments!r})
print(*(name for name in {heavy!r} if sys.modules.get(name)), file=sys.stderr)
sys.exit(code)
"""


def python(installation: Installation, *arguments: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    """A command in an interpreter of its own that tells what it loaded last on standard error."""
    code = PROBE.format(before=before, arguments=list(arguments), heavy=HEAVY)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **installation.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["submit", "a cat", "--model", "sd-1.5"], ["models", "list"]]
)
def test_everyday_commands_load_no_library_of_models(installation: Installation, arguments: list[str]) -> None:
    done = python(installation, *arguments)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].strip() == ""


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("torch", ["worker", "--model", MODEL], "worker"),
        ("celery", ["worker", "--model", MODEL], "worker"),
        ("torch", ["replay", __file__], "worker"),
        ("huggingface_hub", ["models", "pull", "sdxl"], "worker"),
        ("boto3", ["--storage-url", "s3://bucket", "submit", "a cat", "--save", "/tmp/"], "s3"),
    ],
)
def test_a_missing_library_names_its_extra(
    installation: Installation, missing: str, arguments: list[str], extra: str
) -> None:
    done = python(installation, *arguments, before=f"sys.modules[{missing!r}] = None")
    assert done.returncode in (1, 5)
    assert f"needs {missing}" in done.stderr
    assert f'pip install "darkroom[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["submit", "a cat"], ["status", "x"], ["watch", "x"], ["cancel", "x"]])
def test_a_server_that_is_not_there(call: Call, arguments: list[str]) -> None:
    told = call("--redis-url", "redis://127.0.0.1:1/0", *arguments, "--json")
    assert (told.code, told.error["code"]) == (3, "queue_unavailable")
    assert "DARKROOM_REDIS_URL" in told.error["hint"]


def test_a_wrong_password(call: Call) -> None:
    with LocalServer("--requirepass", "right") as server:
        told = call("--redis-url", server.url.replace("//", "//:wrong@"), "list", "--json")
    assert (told.code, told.error["code"]) == (3, "queue_auth_failed")


@pytest.mark.parametrize(
    ("option", "value", "arguments", "code", "named"),
    [
        ("--redis-url", "http://x", ["list"], 2, "settings_invalid"),
        ("--storage-url", "ftp://x", ["submit", "a", "--save", "/tmp/"], 5, "storage_config_invalid"),
        ("--storage-url", "", ["worker", "--model", MODEL], 5, "storage_not_configured"),
    ],
)
def test_settings_that_are_wrong(
    call: Call, option: str, value: str, arguments: list[str], code: int, named: str
) -> None:
    told = call(option, value, *arguments, "--json")
    assert (told.code, told.error["code"]) == (code, named)


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], 2, "usage"),
        (["--model", "nope"], 4, "model_unknown"),
        (["--model", MODEL, "--dtype", "float8"], 2, "settings_invalid"),
        (["--model", MODEL, "--gpus", "many"], 2, "usage"),
        (["--model", MODEL, "--gpus", "0,0"], 2, "usage"),
        (["--model", MODEL, "--gpus", "all", "--device", "cpu"], 2, "usage"),
        (["--model", MODEL, "--catalogue", "nowhere.json"], 4, "catalogue_invalid"),
        (["--model", MODEL, "--concurrency", "-1"], 2, "settings_invalid"),
        (["--model", MODEL, "--max-batch", "65"], 2, "settings_invalid"),
    ],
)
def test_a_worker_that_cannot_be_started(call: Call, arguments: list[str], code: int, named: str) -> None:
    told = call("worker", *arguments, "--json")
    assert (told.code, told.error["code"]) == (code, named)


def test_version_and_help(call: Call) -> None:
    assert call("--version").out.startswith("darkroom 0.")
    for arguments in (["--help"], ["submit", "--help"], ["models", "pull", "-h"]):
        told = call(*arguments)
        assert told.code == 0
        assert "Usage:" in told.out


def test_the_installed_command_is_this_one(installation: Installation) -> None:
    script = Path(sys.executable).with_name("darkroom")
    done = subprocess.run([script, "status", "x"], env={**os.environ, **installation.environment}, check=False)
    assert done.returncode == 7


def test_nobody_reads_on(installation: Installation) -> None:
    """As with `darkroom ... | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom.cli", "models", "list", "--json"],
        env={**os.environ, **installation.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
