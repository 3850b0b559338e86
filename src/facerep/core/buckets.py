"""A bucket is asked with a time limit, and what goes wrong becomes words: what it is, and what to do about it."""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from facerep.core.errors import FacerepError

Answer = TypeVar("Answer")
PATIENCE = 12.0  # seconds that the bucket may take to answer one question
SEARCH = 8.0  # seconds to find credentials in; without any, Google's library asks a dead address for long
AGAIN = "and run the same command again; what has been transferred is kept"


def quiet_gcsfs() -> None:
    """Spare gcsfs what it does beside its work; before it is imported."""
    # else it asks each bucket by gRPC whether it is hierarchical: a minute without an answer from an emulator
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for name in ("gcsfs", "gcsfs.credentials", "google.auth"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # no traceback for each of its own tries


def within(
    seconds: float, question: Callable[[], Answer], passing: Callable[[BaseException], bool] = lambda error: False
) -> Answer:
    """The answer to `question`, which is asked again while its trouble is a `passing` one and there is time.

    Raises what the question raised last, and TimeoutError when it takes too long. A thread asks, since not every way to
    hang heeds a time limit; nobody waits for it any longer then.
    """
    answer: Future[Answer] = Future()
    until = time.monotonic() + seconds

    def ask() -> None:
        while True:
            try:
                return answer.set_result(question())
            except BaseException as error:
                if not passing(error) or time.monotonic() + 1.5 > until:
                    return answer.set_exception(error)
            time.sleep(1)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        if answer.done():
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None


def why(error: BaseException) -> str:
    """What a library for buckets raised, in a line."""
    if isinstance(error, FileNotFoundError):
        return "no such bucket or object"
    if isinstance(error, TimeoutError) and str(error):
        return str(error)
    # a refused refresh is hidden behind gcsfs's own words
    error = error.__cause__ if type(error.__cause__).__name__ == "RefreshError" and error.__cause__ else error
    text = error.args[0] if type(error).__name__ == "RefreshError" and error.args else error
    return " ".join(str(text).split())[:200] or type(error).__name__


def ask_remote(url: str, settings: dict[str, Any]) -> None:
    """Ask a remote of DVC's in Google Cloud Storage, with these `settings`, for one listing.

    Raises FacerepError with what to do when it does not answer well.
    """
    quiet_gcsfs()
    import gcsfs.retry  # type: ignore[import-untyped]

    bucket = url.removeprefix("gs://").partition("/")[0]
    where = settings.get("endpointurl") or "Google Cloud Storage"
    file = settings.get("credentialpath") or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    renew = f"replace the file {file}" if file else "run `gcloud auth application-default login`"
    try:
        fs = within(SEARCH, lambda: open_remote(settings, tries=1))
    except TimeoutError:
        raise FacerepError(f"{url}: no credentials are found; {renew} {AGAIN}.") from None

    def listing() -> None:
        fs.credentials.maybe_refresh()  # raises at once where gcsfs's own request would try for half a minute
        fs.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)

    def passing(error: BaseException) -> bool:
        return str(getattr(error, "code", "")) != "401" and bool(gcsfs.retry.is_retriable(error))

    try:
        within(PATIENCE, listing, passing)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise FacerepError(f"{url}: {_trouble(error, bucket, where, renew)}.") from None


def open_remote(settings: dict[str, Any], tries: int | None = None) -> Any:
    """The file system of a remote of DVC's in Google Cloud Storage; `tries` 1: which does not try a request again.

    Raises FacerepError for a credentials file that is not there or not one.
    """
    quiet_gcsfs()
    import gcsfs

    class Once(gcsfs.GCSFileSystem):
        _request = gcsfs.GCSFileSystem._request.__wrapped__

    token = "anon" if settings.get("allow_anonymous_login") else settings.get("credentialpath")
    mend = "correct credentialpath with `dvc remote modify`"
    if token not in (None, "anon") and not Path(str(token)).is_file():
        raise FacerepError(f"the credentials file {token} is not there; {mend}.")
    try:
        return (Once if tries == 1 else gcsfs.GCSFileSystem)(
            token=token,
            project=settings.get("projectname"),
            endpoint_url=settings.get("endpointurl"),
            consistency="md5",
            skip_instance_cache=True,
        )
    except (ValueError, KeyError, AttributeError):
        raise FacerepError(f"the credentials file {token} holds no credentials of Google's; {mend}.") from None


def forbidden(bucket: str, do: str) -> str:
    """What to do where the bucket knows us and lets us not."""
    bucket = bucket.removeprefix("gs://").partition("/")[0]
    return f"these credentials may not {do} the bucket; ask for the role Storage Object User on {bucket} {AGAIN}"


def _trouble(error: BaseException, bucket: str, where: str, renew: str) -> str:
    kind, text = type(error).__name__, why(error)
    code = str(getattr(error, "code", ""))
    if kind in ("DefaultCredentialsError", "RefreshError") or code == "401":
        return f"no credentials that hold, or they have expired ({text}); {renew} {AGAIN}"
    if isinstance(error, FileNotFoundError) or code == "404":
        return (
            f"there is no bucket {bucket} at {where}; create it with `gcloud storage buckets create gs://{bucket}`, or "
            "name another with `facerep remote use`"
        )
    if code == "403" or text.startswith("Forbidden") or isinstance(error, PermissionError):
        return forbidden(bucket, "read")
    if code in ("408", "429", "500", "502", "503", "504") or kind == "ProxyError":
        return f"{where} is busy or out of order ({code or 502}: {text}); wait a minute {AGAIN}"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer within {PATIENCE:.0f} s; look after the network {AGAIN}"
    return f"{where} cannot be reached ({text}); look after the network {AGAIN}"
