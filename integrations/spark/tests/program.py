"""The program under test, and the rows that it answers."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import signal
import subprocess
import urllib.parse
import urllib.request
from typing import Any, Iterator


class Server:
    """`nacre serve` on a store in S3; what it logs goes to `folder`/log."""

    def __init__(self, folder: pathlib.Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.start()

    def start(self) -> None:
        kept = {name: held for name, held in os.environ.items() if not name.startswith(("NACRE_", "AWS_"))}
        settings = {
            "HOME": str(self.folder),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_ENDPOINT_URL_S3": os.environ["NACRE_TEST_S3"],
            "AWS_ALLOW_HTTP": "true",
        }
        words = ["serve", "--store", self.store, "--listen", "127.0.0.1:0", "--output", "json"]
        with open(self.folder / "log", "ab") as log:
            self.child = subprocess.Popen(
                [os.environ["NACRE_PROGRAM"], *words],
                cwd=self.folder,
                env={**kept, **settings},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        line = self.child.stdout.readline()
        assert line, (self.folder / "log").read_text()
        self.api = json.loads(line)["api"]

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        try:
            assert self.child.wait(60) == 0, (self.folder / "log").read_text()
        finally:
            self.child.kill()
            self.child.stdout.close()

    def ask(self, method: str, path: str, body: Any = None, data: bytes | None = None) -> Any:
        headers = {"Content-Type": "application/json" if data is None else "application/octet-stream"}
        if body is not None:
            data = json.dumps(body).encode()
        url = f"{self.api}/v1/namespaces/default/tables/{path}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def scan(self, table: str) -> Iterator[tuple[str, bytes, int, int | None]]:
        """Key (as JSON), value, version and expiry time of every row, in key order, with all that was done before."""
        token = ""
        while True:
            query = {"page_size": "10000", "value_encoding": "base64", "consistency": "strong"}
            if token:
                query["page_token"] = token
            page = self.ask("GET", f"{table}/rows?{urllib.parse.urlencode(query)}")
            for row in page["rows"]:
                expires = row.get("expires_at")
                value = base64.b64decode(row["value_base64"])
                yield json.dumps(row["key"]), value, int(row["version"]), None if expires is None else int(expires)
            token = page.get("next_page_token", "")
            if not token:
                return

    def get(self, table: str, keys: list[Any]) -> tuple[int, list[str | None]]:
        """The edition, and the values of keys, by one multi-get, with all that was done before."""
        answer = self.ask("POST", f"{table}/rows:batchGet?consistency=strong", {"keys": keys})
        assert all(row["status"] in ("found", "absent") for row in answer["rows"]), answer
        return int(answer["edition"]), [row.get("value") for row in answer["rows"]]


def objects(spark, url: str) -> list[str]:
    """The URLs of what lies below a place in the store."""
    path = spark._jvm.org.apache.hadoop.fs.Path(url)
    listing = path.getFileSystem(spark._jsc.hadoopConfiguration()).listFiles(path, True)
    found = []
    while listing.hasNext():
        found.append(str(listing.next().getPath()))
    return sorted(found)


def overwrite(spark, url: str, data: bytes) -> None:
    """Other bytes under a name, as a task does that comes to its end a second time."""
    path = spark._jvm.org.apache.hadoop.fs.Path(url)
    stream = path.getFileSystem(spark._jsc.hadoopConfiguration()).create(path, True)
    try:
        stream.write(data)
    finally:
        stream.close()
