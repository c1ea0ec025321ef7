"""Stores what a job made: pictures under their digests, and the manifest that makes them again."""

import hashlib
from dataclasses import dataclass

from PIL import Image

from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.images.asked import Asked
from darkroom.worker.images.manifest import ImageRecord, Manifest, manifest_key
from darkroom.worker.images.pictures import OutputFormat, encode, parameters_text


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
    """The picture's file, and what is to be recorded of it."""
    data, content_type = encode(picture, form, parameters_text(asked, seed, picture.size, model))
    return Made(ImageRecord.of(job_id, index, seed, picture, data, content_type, calls), data)


def store_picture(store: PatientStore, made: Made) -> None:
    """Stores one picture. Raises as PatientStore.put."""
    record = made.record
    store.put(record.key, made.data, record.content_type, record.sha256)


def store_manifest(store: PatientStore, manifest: Manifest) -> str:
    """Stores the manifest; returns its key. Raises as store_picture."""
    data = manifest.to_bytes()
    key = manifest_key(manifest.job_id, data)
    store.put(key, data, "application/json", hashlib.sha256(data).hexdigest())
    return key
