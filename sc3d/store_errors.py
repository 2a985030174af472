"""What a store's answer means: whether it is worth another try, and what it says to the person who runs sc3d.

pyarrow reports every answer of an S3 server as an OSError whose text holds the code, the HTTP status and the operation; the codes are
those of the AWS C++ SDK where it knows them, else those of the server.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from sc3d.errors import BucketError, MissingFileError, StoreDeniedError, StoreError, StoreUnavailableError

_ANSWER = re.compile(
    r"AWS Error (?P<code>\w+)(?: \(HTTP status (?P<status>\d+)\))? during (?P<operation>\w+) operation: "
    r"(?:Unable to parse ExceptionName: (?P<name>\w+) Message: )?"
)
_CURL = re.compile(r"curlCode: (\d+)")

# A malformed address and certificates that do not fit: time does not mend them.
_HOPELESS_CURL_CODES = {"1", "3", "51", "58", "60", "77"}
_TRANSIENT_CODES = {
    "NETWORK_CONNECTION",
    "SLOW_DOWN",
    "THROTTLING",
    "INTERNAL_FAILURE",
    "SERVICE_UNAVAILABLE",
    "REQUEST_TIMEOUT",
    "InternalError",
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "OperationAborted",
    "ConditionalRequestConflict",
}
_TRANSIENT_STATUS = {"408", "425", "429", "500", "502", "503", "504"}
_DENIED = {"ACCESS_DENIED", "AccessDenied", "AllAccessDisabled", "AccountProblem"}
_BAD_CREDENTIALS = {
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "UNRECOGNIZED_CLIENT",
    "INVALID_SIGNATURE",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
# An object that was deleted between the request for its size and the one for its bytes.
_GONE = {"RESOURCE_NOT_FOUND", "NO_SUCH_KEY", "NoSuchKey"}
_SKEWED = {"REQUEST_TIME_TOO_SKEWED", "RequestTimeTooSkewed"}

# What a network file system says while its server is away.
_TRANSIENT_ERRNO = {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH}
_DENIED_ERRNO = {errno.EACCES, errno.EPERM, errno.EROFS}


class ShortReadError(OSError):
    """Fewer bytes came than the store had announced."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ShortReadError):
        return True
    if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
        return False
    code, status = _code_of(error)
    if code is None:
        return error.errno in _TRANSIENT_ERRNO
    curl = _CURL.search(str(error))
    if curl and curl.group(1) in _HOPELESS_CURL_CODES:
        return False
    return code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS


def is_silent(error: BaseException) -> bool:
    """Whether the store refused without saying why: the answer to a HEAD request has no body, so not even expired credentials show."""
    return "No response body" in str(error) and not is_transient(error)


def explain(error: OSError, doing: str, where: str) -> StoreError:
    """The error that says what happened and what to do.

    Args:
        error: what pyarrow or the operating system raised.
        doing: the verb, as in "cannot <doing> <where>".
        where: URI of the file or folder.
    """
    code, status = _code_of(error)
    failed = f"cannot {doing} {where}"
    if isinstance(error, FileNotFoundError) or code in _GONE:
        return MissingFileError(f"{where} is not there; has the stage that writes it been run?")
    if is_transient(error):
        return StoreUnavailableError(
            f"{failed}: the store did not answer as it should for a long time, at last: {_short(error)}. Run the same command again "
            "when it is back: what is finished is not computed again. SC3D_STORE_PATIENCE sets how many seconds a run waits"
        )
    bucket = where.removeprefix("s3://").partition("/")[0]
    if f"Bucket '{bucket}' not found" in str(error):
        return missing_bucket(failed, bucket)
    if code is None:
        return _explain_local(error, failed)
    if code in ("NO_SUCH_BUCKET", "NoSuchBucket"):
        return missing_bucket(failed, bucket)
    if code in _ELSEWHERE or status in ("301", "307"):
        return BucketError(
            f"{failed}: bucket '{bucket}' lies in another region; name it with AWS_DEFAULT_REGION, or add ?region=REGION to the URI"
        )
    if code in _BAD_CREDENTIALS:
        return StoreDeniedError(
            f"{failed}: the store does not accept the credentials ({code}). Renew or correct them: environment variables, a profile "
            "(AWS_PROFILE) or the machine's role"
        )
    if code in _SKEWED:
        return StoreDeniedError(
            f"{failed}: this machine's clock is off by more than the store allows; set it (for example with chrony)"
        )
    if code in _DENIED or status == "403":
        return _explain_denial(error, failed)
    if status == "501" and "aws-chunked" in str(error):
        return StoreError(
            f"{failed}: this store does not know the checksums that Amazon's does; set AWS_REQUEST_CHECKSUM_CALCULATION=when_required "
            "on all nodes"
        )
    return StoreError(f"{failed}: {_short(error)}")


def missing_bucket(failed: str, bucket: str) -> BucketError:
    """The error for a bucket that is not there."""
    return BucketError(f"{failed}: there is no bucket '{bucket}' (NoSuchBucket); create it, or correct the run folder's URI")


def _code_of(error: OSError) -> tuple[str | None, str | None]:
    found = _ANSWER.search(str(error))
    return (found["name"] or found["code"], found["status"]) if found else (None, None)


def _short(error: OSError) -> str:
    return str(error).partition(" (Request ID")[0]


def _explain_local(error: OSError, failed: str) -> StoreError:
    reason = error.strerror or str(error)
    kind = StoreDeniedError if error.errno in _DENIED_ERRNO else StoreError
    if "write" in failed or "delete" in failed:
        return kind(f"{failed}: {reason}; is the run folder writable, is there space?")
    return kind(f"{failed}: {reason}")


def _explain_denial(error: OSError, failed: str) -> StoreError:
    found = _ANSWER.search(str(error))
    operation = found["operation"] if found else "this"
    if not _names_credentials():
        return StoreDeniedError(
            f"{failed}: the store denies {operation}, and no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "a profile (AWS_PROFILE), or give the machine a role"
        )
    return StoreDeniedError(
        f"{failed}: the store denies {operation}. The credentials in use need s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject "
        "and s3:DeleteObject on what is below the run folder"
    )


def _names_credentials() -> bool:
    """Whether the environment or a profile holds credentials. A machine's role cannot be seen without asking the network."""
    named = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in (*named, "AWS_CONTAINER_CREDENTIALS_FULL_URI")):
        return True
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    return any(Path(file).expanduser().is_file() for file in files)
