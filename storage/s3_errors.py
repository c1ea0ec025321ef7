"""The one door where boto3's and botocore's errors become ours."""

import contextlib
from collections.abc import Iterator

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from darkroom.storage.errors import (
    BucketMissing,
    ObjectNotFound,
    StorageBroken,
    StorageConfigInvalid,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

#: What the server names as the reason; the names are S3's, with those of servers that have their own.
_BY_CODE: dict[str, type[StorageError]] = {
    "NoSuchKey": ObjectNotFound,
    "NoSuchBucket": BucketMissing,
    "AccessDenied": StorageDenied,
    "AllAccessDisabled": StorageDenied,
    "ExpiredToken": StorageDenied,
    "InvalidAccessKeyId": StorageDenied,
    "InvalidToken": StorageDenied,
    "SignatureDoesNotMatch": StorageDenied,
    "EntityTooLarge": StorageBroken,
    "InsufficientStorage": StorageFull,
    "QuotaExceeded": StorageFull,
    "XMinioAdminBucketQuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
    "AuthorizationHeaderMalformed": StorageConfigInvalid,
    "IllegalLocationConstraintException": StorageConfigInvalid,
    "InvalidBucketName": StorageConfigInvalid,
    "PermanentRedirect": StorageConfigInvalid,
    "RequestTimeout": StorageUnavailable,
    "SlowDown": StorageUnavailable,
    "Throttling": StorageUnavailable,
}
#: For answers without a body, as to HEAD, and for reasons that the table does not know.
_BY_STATUS: dict[int, type[StorageError]] = {
    301: StorageConfigInvalid,
    401: StorageDenied,
    403: StorageDenied,
    404: ObjectNotFound,
    413: StorageBroken,
    429: StorageUnavailable,
    507: StorageFull,
}
_HINTS = {
    "EntityTooLarge": "the server, or a proxy before it, takes no object so large: raise its limit",
    "RequestTimeTooSkewed": "the clocks of this machine and the server differ",
    "PermanentRedirect": "the bucket lies in another region: set DARKROOM_S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set DARKROOM_S3_REGION",
}


_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
)
_NO_ANSWER = (BotoConnectionError, HTTPClientError, IncompleteReadError)
_BAD_SETTING = (ParamValidationError, NoRegionError, ProfileNotFound, ValueError)


@contextlib.contextmanager
def door(what: str) -> Iterator[None]:
    """Turns errors of boto3 and botocore into StorageErrors about `what` ("KEY in bucket NAME")."""
    try:
        yield
    except ClientError as error:
        raise _refused(error, what) from error
    except (BotoCoreError, Boto3Error, ValueError) as error:
        raise _not_done(error, what) from error


def _refused(error: ClientError, what: str) -> StorageError:
    """The server answered, and the answer is no."""
    answer = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = answer.get("Code", "")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is None:
        kind = StorageUnavailable if status >= 500 else StorageBroken
    return kind(f"{what}: the store answered {code} {answer.get('Message', '')}".rstrip(), hint=_HINTS.get(code))


def _not_done(error: Exception, what: str) -> StorageError:
    """The question was not asked, or the answer did not arrive."""
    message = f"{what}: {error}"
    if isinstance(error, _NO_CREDENTIALS):
        return StorageDenied(message)
    if isinstance(error, _NO_ANSWER):
        return StorageUnavailable(message)
    if isinstance(error, _BAD_SETTING):
        return StorageConfigInvalid(message, hint="check the DARKROOM_S3_... settings and DARKROOM_STORAGE_URL")
    return StorageBroken(message)
