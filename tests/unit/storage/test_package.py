"""The package as others see it."""

import subprocess
import sys

import darkroom.storage
from darkroom.storage import errors


def test_public_names() -> None:
    assert darkroom.storage.__all__ == sorted(darkroom.storage.__all__)
    assert set(darkroom.storage.__all__) == {
        "InputError",
        "ObjectStore",
        "StorageError",
        "StorageNotConfigured",
        "StorageSettings",
        "StoredObject",
        "input_key",
        "job_of_output",
        "open_store",
    }


def test_a_folder_needs_no_extra() -> None:
    """Reading results from a folder works where neither boto3 nor Pillow is installed, and imports nothing large."""
    program = (
        "import sys\n"
        "from darkroom.storage import StorageSettings, open_store\n"
        "open_store(StorageSettings(storage_url='file:///nowhere'))\n"
        "print(*sorted({'boto3', 'botocore', 'PIL', 'httpcore', 'torch', 'darkroom.tasks'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_uploading_to_a_folder_needs_pillow_alone() -> None:
    """As where `pip install Pillow` was all: httpcore is for `https:` inputs, which workers read, boto3 for S3."""
    program = (
        "import io, sys, tempfile, pathlib\n"
        "sys.modules.update(dict.fromkeys(('boto3', 'botocore', 'httpcore', 'httpx')))\n"
        "from PIL import Image\n"
        "from darkroom.storage import StorageSettings, open_store\n"
        "from darkroom.tasks.objects import upload\n"
        "picture = io.BytesIO()\n"
        "Image.new('RGB', (8, 8)).save(picture, 'PNG')\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    store = open_store(StorageSettings(storage_url=pathlib.Path(folder).as_uri()))\n"
        "    print(store.exists(upload(store, picture.getvalue(), 'default')))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"]


def tree() -> list[type[errors.StorageError]]:
    found: list[type[errors.StorageError]] = []
    for kind in (errors.StorageError, errors.InputError):
        found += [child for child in kind.__subclasses__() if child is not errors.InputError]
    return found


def test_the_drawing_of_the_tree_is_right() -> None:
    """Each class stands in it with its code, marked (r) when it is worth trying again."""
    drawing = errors.__doc__ or ""
    for kind in tree():
        (line,) = [line for line in drawing.splitlines() if f"─ {kind.__name__} " in line]
        assert kind.code in line.split()
        assert ("(r)" in line) == kind.retryable


def test_codes_are_stable_and_unlike() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and code.isidentifier() for code in codes)


def test_message_and_hint() -> None:
    error = errors.BucketMissing("no bucket b")
    assert error.message == "no bucket b"
    assert str(error) == f"no bucket b ({error.hint})"
    assert str(errors.KeyInvalid("plain")) == "plain"
    assert str(errors.BucketMissing("no bucket b", hint="make one")) == "no bucket b (make one)"
