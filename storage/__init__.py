"""Bytes by key: results, manifests and input images, in S3 or a folder.

    store = open_store()                      # what DARKROOM_STORAGE_URL names
    store.put("a/b.png", data, content_type="image/png")
    link = store.url("a/b.png", seconds=3600)

What needs Pillow and httpcore stays in its own module, so that reading results needs neither:
`darkroom.storage.inputs` (`read_input`, `store_input`) and `darkroom.storage.images` (`open_picture`).
"""

from darkroom.storage.errors import InputError, StorageError, StorageNotConfigured
from darkroom.storage.interface import ObjectStore, StoredObject
from darkroom.storage.keys import input_key, job_of_output
from darkroom.storage.settings import StorageSettings
from darkroom.storage.stores import open_store

__all__ = [
    "InputError",
    "ObjectStore",
    "StorageError",
    "StorageNotConfigured",
    "StorageSettings",
    "StoredObject",
    "input_key",
    "job_of_output",
    "open_store",
]
