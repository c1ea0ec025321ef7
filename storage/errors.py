"""Every error that storage raises, one tree. `code` is stable and belongs to the API; the text may change.

StorageError
├── StorageNotConfigured      storage_not_configured   no store is named
├── StorageConfigInvalid      storage_config_invalid   a setting is wrong, or a library is missing
├── StorageUnavailable        storage_unavailable (r)  not reachable, overloaded, or no answer in time
├── StorageAway               storage_away        (r)  not the store that Redis knows: not mounted, or another one
├── StorageDenied             storage_denied           wrong credentials, or they lack a right
├── BucketMissing             bucket_missing           the bucket does not exist
├── StorageFull               storage_full        (r)  no room left: disk or quota
├── StorageReadOnly           storage_read_only   (r)  nothing can be written
├── StorageBroken             storage_broken           any other refusal of the store
├── KeyInvalid                key_invalid              no key of this form is stored or read
├── ObjectNotFound            object_not_found         nothing lies under the key
├── ObjectTooLarge            object_too_large         larger than the caller is willing to read
├── ObjectCorrupt             object_corrupt           the bytes are not those that were put
└── InputError                                         an input image cannot be used
    ├── InputReferenceInvalid input_reference_invalid  neither a key, nor a data: URL, nor an https: URL
    ├── InputMissing          input_missing            nothing there
    ├── InputForbidden        input_forbidden          the key belongs to somebody else
    ├── InputAddressForbidden input_address_forbidden  the URL leads to an address that is not public
    ├── InputUnreachable      input_unreachable   (r)  no answer, or not in time
    ├── InputTooLarge         input_too_large          more bytes than allowed
    ├── InputNotAnImage       input_not_an_image       by content neither PNG, JPEG nor WebP
    ├── InputNotLatents       input_not_latents        no .safetensors file with one tensor of latents
    ├── InputNotEmbeddings    input_not_embeddings     no .safetensors file with a prompt's embeddings
    ├── InputUnfit            input_unfit              latents or embeddings that are not for this job
    ├── InputBomb             input_bomb               would unpack to more than the limit, or take too long
    ├── InputCorrupt          input_corrupt            begins as an input does, but cannot be read to its end
    ├── MaskEmpty             mask_empty               a mask that marks nothing
    └── MaskUnfit             mask_unfit               a mask of other proportions than its image

(r): worth trying again as it is.
"""

from typing import ClassVar


class StorageError(Exception):
    """Root of the tree. The message says what happened; `hint` says what to do."""

    code: ClassVar[str] = "storage_error"
    retryable: ClassVar[bool] = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint if hint is not None else type(self).hint

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class StorageNotConfigured(StorageError):
    """No store is named."""

    code = "storage_not_configured"
    hint = "set DARKROOM_STORAGE_URL to s3://bucket/prefix or file:///folder"


class StorageConfigInvalid(StorageError):
    """A setting is wrong, or a library that the store needs is not installed."""

    code = "storage_config_invalid"


class StorageUnavailable(StorageError):
    """The store is not reachable, overloaded, or gave no answer in time."""

    code = "storage_unavailable"
    retryable = True
    hint = "check that the store is up, and DARKROOM_S3_ENDPOINT_URL"


class StorageAway(StorageError):
    """What lies there is not the store that Redis knows: its disk is not mounted, or it is another one."""

    code = "storage_away"
    retryable = True
    hint = (
        "mount it again, or correct DARKROOM_STORAGE_URL or DARKROOM_REDIS_URL; "
        "where the store was changed on purpose: darkroom store adopt"
    )


class StorageDenied(StorageError):
    """The credentials are wrong, or they lack a right."""

    code = "storage_denied"
    hint = "check DARKROOM_S3_ACCESS_KEY_ID and DARKROOM_S3_SECRET_ACCESS_KEY, and what that user may do in the bucket"


class BucketMissing(StorageError):
    """The bucket does not exist."""

    code = "bucket_missing"
    hint = "create it, or correct DARKROOM_STORAGE_URL; Darkroom never creates buckets"


class StorageFull(StorageError):
    """No room left: the disk, or a quota."""

    code = "storage_full"
    retryable = True
    hint = "free space or raise the quota"


class StorageReadOnly(StorageError):
    """Nothing can be written: mounted to be read only, or the disk is failing."""

    code = "storage_read_only"
    retryable = True
    hint = "mount it to be written to; where it was, the system's log may tell why it no longer is"


class StorageBroken(StorageError):
    """The store refused for a reason that trying again does not cure."""

    code = "storage_broken"


class KeyInvalid(StorageError):
    """No key of this form is stored or read."""

    code = "key_invalid"


class ObjectNotFound(StorageError):
    """Nothing lies under the key."""

    code = "object_not_found"
    hint = "it was never stored, or has been deleted"


class ObjectTooLarge(StorageError):
    """The object is larger than the caller is willing to read."""

    code = "object_too_large"


class ObjectCorrupt(StorageError):
    """The bytes under the key are not those that were put there."""

    code = "object_corrupt"


class InputError(StorageError):
    """An input image cannot be used."""

    code = "input_error"


class InputReferenceInvalid(InputError):
    """The reference is neither a storage key, nor a data: URL, nor an https: URL."""

    code = "input_reference_invalid"
    hint = "give a storage key, a base64 data: URL, or an https: URL"


class InputMissing(InputError):
    """Nothing is there."""

    code = "input_missing"
    hint = "upload it first, or correct the reference"


class InputForbidden(InputError):
    """The key belongs to somebody else."""

    code = "input_forbidden"
    hint = (
        "use a key under inputs/TENANT/, or an output of a job of the same tenant while its record is kept; "
        "what is to last longer is uploaded"
    )


class InputAddressForbidden(InputError):
    """The URL leads to an address that is not public, or away from https."""

    code = "input_address_forbidden"
    hint = "upload the image and give its storage key"


class InputUnreachable(InputError):
    """No answer, or not in time."""

    code = "input_unreachable"
    retryable = True


class InputTooLarge(InputError):
    """More bytes than allowed."""

    code = "input_too_large"


class InputNotAnImage(InputError):
    """By content neither PNG, JPEG nor WebP."""

    code = "input_not_an_image"
    hint = "send a PNG, JPEG or WebP"


class InputNotLatents(InputError):
    """No .safetensors file with the one tensor of latents."""

    code = "input_not_latents"
    hint = "give the key of a file of the role `latents`, or of an upload of one"


class InputNotEmbeddings(InputError):
    """No .safetensors file with the embeddings of a prompt."""

    code = "input_not_embeddings"
    hint = "give the key of a file of the role `embeddings`, or of an upload of one"


class InputUnfit(InputError):
    """Latents of another family or size than the job's, or embeddings of other text encoders."""

    code = "input_unfit"


class InputBomb(InputError):
    """Would unpack to more than the limit; it was not unpacked."""

    code = "input_bomb"
    hint = "scale the image down first"


class InputCorrupt(InputError):
    """Begins as an image, latents or embeddings do, but cannot be read to its end."""

    code = "input_corrupt"
    hint = "make the file anew: export the image again, or repeat the job that made latents or embeddings"


class MaskEmpty(InputError):
    """A mask marks nothing."""

    code = "mask_empty"


class MaskUnfit(InputError):
    """A mask has other proportions than the image that it is for."""

    code = "mask_unfit"
    hint = "make it of the image as it is shown: turned as its EXIF data says"
