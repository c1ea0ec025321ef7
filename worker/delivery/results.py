"""Stores what a job made: pictures under their digests, and the manifest that makes them again."""

import hashlib
from dataclasses import dataclass

from PIL import Image

from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.images.asked import Asked
from darkroom.worker.images.manifest import ImageRecord, Manifest
from darkroom.worker.images.pictures import OutputFormat, encode, parameters_text

_ENDINGS = {"png": "png", "jpeg": "jpg", "webp": "webp"}


@dataclass(frozen=True, slots=True)
class Made:
    """A picture and its file: what the manifest says of it, and the bytes to store under its key."""

    record: ImageRecord
    data: bytes


def encode_picture(
    job_id: str,
    index: int,
    seed: int,
    picture: Image.Image,
    asked: Asked,
    *,
    form: OutputFormat,
    model: str,
    calls: str,
) -> Made:
    """The picture's file. The digest in its key keeps a late writer from replacing what a record names."""
    data, content_type = encode(picture, form, parameters_text(asked, seed, picture.size, model))
    key = f"{job_id}/{index}-{hashlib.sha256(data).hexdigest()[:16]}.{_ENDINGS[form]}"
    return Made(ImageRecord.of(index, seed, picture, data, key, content_type, calls), data)


def store_picture(store: PatientStore, made: Made) -> None:
    """Stores one picture. Raises as PatientStore.put."""
    record = made.record
    store.put(record.key, made.data, record.content_type, record.sha256)


def store_manifest(store: PatientStore, manifest: Manifest) -> str:
    """Stores the manifest; returns its key. Raises as store_picture."""
    data = manifest.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"{manifest.job_id}/manifest-{digest[:16]}.json"
    store.put(key, data, "application/json", digest)
    return key
