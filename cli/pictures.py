"""Pictures of this machine: input files on their way into storage, results on their way out of it."""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.cli.errors import UsageFault
from darkroom.cli.reading import local_path
from darkroom.storage import job_of_output
from darkroom.tasks import Darkroom, Fault, InvalidRequest, StoredFile, StoredImage, parse_request
from darkroom.tasks.requests import DEFAULT_KIND, KINDS, JobRequest
from darkroom.tasks.requests.stylize import style_of

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # one letter is a drive of Windows
_SOME_KEY, _SOME_FILE = "0/0-0000000000000000.png", "0/{}-0000000000000000.safetensors"  # stand for those of uploads
_FILES = (".safetensors",)  # endings of what jobs make that is no picture
MOST_SHOWN = 200  # characters of a path in a message
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def with_upload(fields: Mapping[str, Any], client: Darkroom) -> Mapping[str, Any]:
    """The fields with a local input file replaced by the key under which it was uploaded.

    For a request with faults nothing is uploaded. Raises InvalidRequest with all of them, or all files that are not
    there or no pictures, StorageFailed, StorageNotConfigured.
    """
    fields, local = _with_local(fields)
    if not local:
        return fields
    tenant = _checked_with(fields, local, {}).tenant
    uploaded, faults = dict[str, str](), list[Fault]()
    for name, value in local.items():
        try:
            uploaded[name] = _uploaded(client, name, value, tenant)
        except InvalidRequest as error:
            faults += error.faults
    if faults:
        raise InvalidRequest(faults)
    return _with(fields, uploaded)


def without_upload(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields with keys as uploads have them in the place of local files, which stay where they are.

    Raises InvalidRequest with all faults, or all files that are not there.
    """
    fields, local = _with_local(fields)
    keys: dict[str, str] = {}
    if local:
        _checked_with(fields, local, keys)
    return _with(fields, keys)


def _with_local(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields in their plain form, and what they name of files of this machine, by place."""
    plain = {**fields, **_parted(fields)}
    named = {place: value for name in _inputs(plain) for place, value in _named(name, plain.get(name))}
    return plain, {place: value for place, value in named.items() if is_local(value)}


def _checked_with(fields: Mapping[str, Any], local: Mapping[str, str], keys: dict[str, str]) -> JobRequest:
    """The request with keys that may be the files', which are put into `keys`. Raises InvalidRequest."""
    keys.update({place: _some_key(fields, place, value) for place, value in local.items()})
    try:
        request = parse_request(_with(fields, keys))
    except InvalidRequest as error:
        raise InvalidRequest([_in_words(fault, keys, local) for fault in error.faults]) from None
    _check_there(local)
    return request


def _parted(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The pictures of a style, each as a mapping, whose reference may be replaced."""
    styles = fields.get("styles")
    styles = [styles] if isinstance(styles, str) else styles
    if not isinstance(styles, list) or "styles" not in _inputs(fields):
        return {}
    return {"styles": [style_of(one) if isinstance(one, str) else one for one in styles]}


def _named(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a field names of inputs, by their places: `image`, or `styles.0.image`."""
    if isinstance(value, str):
        yield place, value
    for number, one in enumerate(value if isinstance(value, list) else ()):
        if isinstance(one, Mapping) and isinstance(one.get("image"), str):
            yield f"{place}.{number}.image", one["image"]


def _with(fields: Mapping[str, Any], references: Mapping[str, str]) -> dict[str, Any]:
    """The fields with other references at these places."""
    found = dict(fields)
    for place, reference in references.items():
        name, *within = place.split(".")
        if within:
            number = int(within[0])
            found[name] = [{**one, "image": reference} if at == number else one for at, one in enumerate(found[name])]
        else:
            found[name] = reference
    return found


def _in_words(fault: Fault, keys: Mapping[str, str], local: Mapping[str, str]) -> Fault:
    """With the file that was named, not the key that stands for it."""
    named = fault.field in keys
    return replace(fault, message=fault.message.replace(keys[fault.field], local[fault.field])) if named else fault


def _check_there(local: Mapping[str, str]) -> None:
    """Raises InvalidRequest with every field whose file is not there, or cannot be."""
    faults = []
    for name, value in local.items():
        try:
            why = None if local_path(value, name).is_file() else "is no file here and no storage key"
        except UsageFault:
            why = "is in the home of nobody here, and no storage key"
        except OSError as error:  # too long a name, a folder that may not be looked into
            why = f"cannot be a file here: {error.strerror}"
        if why:
            faults.append(Fault(name, "input_missing", f"{value[:MOST_SHOWN]} {why}"))
    if faults:
        raise InvalidRequest(faults)


def _some_key(fields: Mapping[str, Any], name: str, path: str) -> str:
    """What may be the key of this file, once it is uploaded."""
    if not path.endswith(_FILES):
        return _SOME_KEY
    embeddings = KINDS[fields.get("kind", DEFAULT_KIND)].embeddings
    return _SOME_FILE.format("embeddings" if name in embeddings else "latents")


def _uploaded(client: Darkroom, field: str, value: str, tenant: str) -> str:
    """The key of a file. Raises InvalidRequest with the field that named it."""
    try:
        return client.upload(local_path(value, field), tenant=tenant)
    except InvalidRequest as error:
        faults = [replace(fault, field=field) if fault.field == "image" else fault for fault in error.faults]
        raise InvalidRequest(faults) from None


def _inputs(fields: Mapping[str, Any]) -> tuple[str, ...]:
    kind = fields.get("kind", DEFAULT_KIND)
    return KINDS[kind].inputs if isinstance(kind, str) and kind in KINDS else ()


def is_local(reference: str) -> bool:
    """Whether an image reference means a file of this machine: neither a URL nor a storage key."""
    return not (_URL.match(reference) or reference.startswith("inputs/") or job_of_output(reference))


def folder_named(save: str) -> str:
    """What is to be a folder, for `Target`. Raises UsageFault where `--save` names none."""
    if not save.strip():
        raise UsageFault("--save: names no folder", hint="a variable of the shell may be empty; ./ is here")
    return f"{save}{os.sep}"


def format_of(save: str, fields: Mapping[str, Any]) -> str | None:
    """The output format of what a request's results are saved as: by the file's ending; in a folder, as asked for.

    Raises UsageFault for an ending that no result has, or another one than the job's results.
    """
    if not save.strip():
        raise UsageFault("--save: names no file or folder", hint="a variable of the shell may be empty; ./ is here")
    wanted, path = fields.get("output_format"), local_path(save, "--save")
    ending = path.suffix.lower()
    if save.endswith(os.sep) or path.is_dir():
        return wanted
    endings = ", ".join((*_FORMATS, *_FILES))
    if not ending:
        raise UsageFault(f"--save {save}: no such folder", hint=f"{save}/ makes it; a file ends with one of {endings}")
    if ending not in _FORMATS and ending not in _FILES:
        raise UsageFault(f"--save {save}: no result ends so", hint=f"endings are {endings}")
    _check_ending(save, ending, fields)
    form = _FORMATS.get(ending)
    if wanted is not None and wanted in _FORMATS.values() and form not in (None, wanted):
        raise UsageFault(f"--save {save} is a {form}, --format asks for {wanted}", hint="leave one of the two out")
    return form if wanted is None else wanted


def _check_ending(save: str, ending: str, fields: Mapping[str, Any]) -> None:
    """Raises UsageFault where a picture would go into a file of latents, or the other way round."""
    kind = KINDS.get(fields.get("kind", DEFAULT_KIND))
    if kind is None:  # which the request's own faults tell
        return
    kept = "output" in kind.model_fields
    pictures = "output_format" in kind.model_fields and not (kept and fields.get("output") == ["latents"])
    if pictures and ending in _FILES:
        beside = "; latents go beside it, or alone with --output latents" if kept else ""
        hint = f"give the picture's file, which ends with one of {', '.join(_FORMATS)}{beside}"
        raise UsageFault(f"--save {save}: the job makes pictures", hint=hint)
    if not pictures and ending not in _FILES:
        hint = f"its files end with {', '.join(_FILES)}; or give a folder/"
        raise UsageFault(f"--save {save}: the job makes no pictures", hint=hint)


class Target:
    """Where results go: a folder (ends with / or is one), or a file, with others beside it where there are several."""

    def __init__(self, save: str) -> None:
        """Makes the folder that is needed. Raises OSError where it cannot be written to, before a job is submitted."""
        self._path = local_path(save, "--save")
        self._paths = dict[str, Path]()
        self._is_folder = save.endswith(os.sep) or self._path.is_dir()
        folder = self._path if self._is_folder else self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def save(self, images: Sequence[StoredImage], files: Sequence[StoredFile] = ()) -> list[Path]:
        """Fetches and writes the pictures, then the files, each once; returns their paths in this order.

        Raises OSError and the errors of storage.
        """
        pictures = [self._written(image, self._picture(image, alone=len(images) == 1)) for image in images]
        alone = not images and len(files) == 1
        return [*pictures, *(self._written(file, self._file(file, alone=alone)) for file in files)]

    def _written(self, result: StoredImage | StoredFile, path: Path) -> Path:
        """Where it lies since it was first asked for."""
        if result.key not in self._paths:
            self._paths[result.key] = result.save(path)
        return self._paths[result.key]

    def _picture(self, image: StoredImage, *, alone: bool) -> Path:
        if self._is_folder or alone:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{image.index}{self._path.suffix}")

    def _file(self, file: StoredFile, *, alone: bool) -> Path:
        """Beside the pictures, with a name that tells what it is; alone where the path says, if it ends as the file."""
        ending = file.key.rpartition(".")[2]
        if self._is_folder or (alone and self._path.suffix.lower() == f".{ending}"):
            return self._path
        return self._path.with_name(f"{self._path.stem}-{file.place.replace('/', '-')}.{ending}")
