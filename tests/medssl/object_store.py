"""An object store in this process that speaks S3, for tests: moto's, with faults when asked for."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ACCESS_KEY, SECRET = "AKIAPLANTEDKEY", "planted/secret+of+the+store"
BUCKET = "hospital"
_FAULTS = {"busy": "503 Slow Down", "denied": "403 Forbidden"}


class ObjectStore:
    """A running server.

    Attributes:
        fetched: Keys of the objects that were asked for, in order.
        fault: Tells by its key what is wrong with an object now: "busy", "denied", "cut" (the
            connection ends in the middle), or None.
    """

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.fault: Callable[[str], str | None] = lambda key: None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Mute
        )
        self.address = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET}
        place = {"endpoint_url": self.address, "region_name": "us-east-1"}
        self._client = boto3.client("s3", **keys, **place)

    def put(self, key: str, content: bytes) -> None:
        """Store an object under any name, also one that no client would send."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        backend.put_object(BUCKET, key, content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def empty(self) -> None:
        """Begin with an empty bucket, without faults and without clients of other addresses."""
        _forget_clients()
        self.fault = lambda key: None
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
        self._client.create_bucket(Bucket=BUCKET)
        self.fetched.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}").removeprefix("/")
        fault = self.fault(key)
        if environ["REQUEST_METHOD"] == "GET" and key:
            self.fetched.append(key)
        if fault in _FAULTS:
            start(_FAULTS[fault], [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]
        answer = b"".join(self._app(environ, start))
        return [answer[: len(answer) // 2]] if fault == "cut" else [answer]


class _Mute(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running(patch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Start a store, and let the environment lead to it."""
    store = ObjectStore()
    use(patch, store.address)
    try:
        yield store
    finally:
        store.close()


def use(patch: pytest.MonkeyPatch, address: str) -> None:
    """Let the environment lead to the store at `address`, with the credentials of the tests."""
    patch.setenv("AWS_ENDPOINT_URL", address)
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_MAX_ATTEMPTS", "1")  # of the package itself, to be quick
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        patch.setenv(name, "/nowhere")
    _forget_clients()


def _forget_clients() -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()
