"""Google Cloud Storage in memory: the part of its JSON interface that gcsfs uses, with real preconditions.

    python gcs.py PORT

One event loop, and no `await` between looking at an object and storing it, makes each request atomic.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import google_crc32c
from aiohttp import web

_PAGE = 1000
_LARGEST_BODY = 1 << 33


class Refused(Exception):
    """An answer other than success, as Google words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass
class Object:
    bucket: str
    name: str
    data: bytes
    generation: int
    fields: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "size": str(len(self.data)),
            "storageClass": "STANDARD",
            **_checksums(self.data),
            **self.fields,
        }


@dataclass
class Upload:
    """A resumable upload that has begun."""

    bucket: str
    name: str
    about: dict[str, Any]
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)


class Storage:
    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Object]] = {}
        self.uploads: dict[str, Upload] = {}
        self._generation = time.time_ns() // 1000

    def bucket(self, name: str) -> dict[str, Object]:
        if name not in self.buckets:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]

    def get(self, bucket: str, name: str) -> Object:
        found = self.bucket(bucket).get(name)
        if found is None:
            raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
        return found

    def check(self, bucket: str, name: str, query: dict[str, str]) -> None:
        """The precondition of a write: generation 0 says that the name must be free."""
        wanted = query.get("ifGenerationMatch")
        found = self.bucket(bucket).get(name)
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            raise Refused(
                412,
                "conditionNotMet",
                "At least one of the pre-conditions you specified did not hold.",
            )

    def store(
        self, bucket: str, name: str, data: bytes, about: dict[str, Any], query: dict[str, str]
    ) -> Object:
        self.check(bucket, name, query)
        for key, value in _checksums(data).items():
            if about.get(key, value) != value:
                raise Refused(400, "invalid", f"Provided {key} does not match the data.")
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        fields = {"contentType": about.get("contentType", "application/octet-stream")}
        fields |= {"timeCreated": now, "updated": now, "metadata": about.get("metadata", {})}
        made = Object(bucket, name, data, self._generation, fields)
        self.buckets[bucket][name] = made
        return made


def _checksums(data: bytes) -> dict[str, str]:
    md5, crc = hashlib.md5(data).digest(), google_crc32c.Checksum(data).digest()
    return {"md5Hash": base64.b64encode(md5).decode(), "crc32c": base64.b64encode(crc).decode()}


class Interface:
    """HTTP to calls of Storage."""

    def __init__(self) -> None:
        self.storage = Storage()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except Refused as error:
            detail = {"message": str(error), "domain": "global", "reason": error.reason}
            body = {"code": error.status, "message": str(error), "errors": [detail]}
            return web.json_response({"error": body}, status=error.status)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        before, _, rest = request.rel_url.raw_path.partition("/storage/v1/")
        parts = [unquote(part) for part in rest.split("/")]  # b / <bucket> / o / <object>
        if parts == ["b"]:
            return await self._make_bucket(request)
        if len(parts) < 2:
            raise Refused(404, "notFound", "Not Found")
        if before == "/upload":
            return await self._upload(request, parts[1])
        if len(parts) == 2:
            self.storage.bucket(parts[1])
            return web.json_response({"kind": "storage#bucket", "name": parts[1], "id": parts[1]})
        if len(parts) == 3:
            return self._list(request, parts[1])
        return self._object(request, parts[1], parts[3], before == "/download")

    async def _make_bucket(self, request: web.Request) -> web.Response:
        name = json.loads(await request.read())["name"]
        if name in self.storage.buckets:
            raise Refused(409, "conflict", "You already own this bucket.")
        self.storage.buckets[name] = {}
        return web.json_response({"kind": "storage#bucket", "name": name, "id": name})

    def _object(self, request: web.Request, bucket: str, name: str, media: bool) -> web.Response:
        found = self.storage.get(bucket, name)
        if request.method == "DELETE":
            del self.storage.buckets[bucket][name]
            return web.Response(status=204)
        if request.method != "GET":
            raise Refused(405, "methodNotAllowed", "Method Not Allowed")
        if media or request.query.get("alt") == "media":
            return _media(request, found)
        return web.json_response(found.describe())

    def _list(self, request: web.Request, bucket: str) -> web.Response:
        query = request.query
        items, prefixes, after = _page(
            sorted(self.storage.bucket(bucket)),
            query.get("prefix", ""),
            query.get("delimiter", ""),
            query.get("pageToken", ""),
            int(query.get("maxResults", _PAGE)),
        )
        answer: dict[str, Any] = {"kind": "storage#objects", "prefixes": prefixes}
        answer["items"] = [self.storage.get(bucket, name).describe() for name in items]
        if after:
            answer["nextPageToken"] = after
        return web.json_response(answer)

    async def _upload(self, request: web.Request, bucket: str) -> web.Response:
        query, storage = dict(request.query), self.storage
        storage.bucket(bucket)
        data = await request.read()
        if "upload_id" in query:
            return self._continue(request, query["upload_id"], data)
        if query.get("uploadType") == "media":
            made = storage.store(bucket, query["name"], data, {}, query)
            return web.json_response(made.describe())
        if query.get("uploadType") == "multipart":
            about, body = _two_parts(request.headers["Content-Type"], data)
            name = query.get("name") or about["name"]
            return web.json_response(storage.store(bucket, name, body, about, query).describe())
        about = json.loads(data) if data else {}
        return self._begin(
            request, Upload(bucket, query.get("name") or about["name"], about, query)
        )

    def _begin(self, request: web.Request, upload: Upload) -> web.Response:
        self.storage.check(upload.bucket, upload.name, upload.query)
        key = uuid.uuid4().hex
        self.storage.uploads[key] = upload
        place = f"http://{request.host}/upload/storage/v1/b/{upload.bucket}/o"
        return web.json_response({}, headers={"Location": f"{place}?upload_id={key}"})

    def _continue(self, request: web.Request, key: str, data: bytes) -> web.Response:
        upload = self.storage.uploads.get(key)
        if upload is None:
            raise Refused(404, "notFound", "No such upload")
        found = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", request.headers.get("Content-Range", "")
        )
        start = int(found[1]) if found and found[1] else len(upload.data)
        upload.data[start:] = data
        if found and (found[2] == "*" or int(found[2]) > len(upload.data)):
            had = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
            return web.Response(status=308, headers=had)
        del self.storage.uploads[key]
        made = self.storage.store(
            upload.bucket, upload.name, bytes(upload.data), upload.about, upload.query
        )
        return web.json_response(made.describe())


def _page(
    names: list[str], prefix: str, delimiter: str, after: str, most: int
) -> tuple[list[str], list[str], str | None]:
    """(objects, folders, where to go on) of one page of a listing."""
    items: list[str] = []
    folders: list[str] = []
    last = after
    for name in names:
        folder = _folder(name, prefix, delimiter)
        if not name.startswith(prefix) or name <= after or (folder and after.startswith(folder)):
            continue
        if folder and folder in folders:
            last = name
            continue
        if len(items) + len(folders) == most:
            return items, folders, last
        (folders if folder else items).append(folder or name)
        last = name
    return items, folders, None


def _folder(name: str, prefix: str, delimiter: str) -> str:
    """What stands for `name` in a listing by folders, or '' if it stands for itself."""
    rest = name[len(prefix) :]
    return (
        prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else ""
    )


def _media(request: web.Request, found: Object) -> web.Response:
    sums = _checksums(found.data)
    hashes = {"X-Goog-Hash": f"crc32c={sums['crc32c']},md5={sums['md5Hash']}"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return web.Response(body=found.data, headers=hashes)
    size, start = len(found.data), int(asked[1])
    stop = min(size, int(asked[2]) + 1) if asked[2] else size
    if start >= size:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
    where = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return web.Response(status=206, body=found.data[start:stop], headers=where)


def _two_parts(content_type: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """(description, bytes) of a multipart/related body; some clients end lines with \\n alone."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not found:
        raise Refused(400, "invalid", "no boundary")
    mark = b"--" + found[1].strip("'").encode()
    _, about, body = data.split(mark, 2)
    body = body[: body.rindex(mark + b"--")]
    line = b"\r\n" if body.startswith(b"\r\n") else b"\n"
    return json.loads(_content(about)), _content(body).removesuffix(line)


def _content(part: bytes) -> bytes:
    """A part without its headers."""
    found = re.search(rb"\r?\n\r?\n", part.lstrip(b"\r\n"))
    if not found:
        raise Refused(400, "invalid", "a part without headers")
    return part.lstrip(b"\r\n")[found.end() :]


def main() -> None:
    application = web.Application(client_max_size=_LARGEST_BODY)
    application.router.add_route("*", "/{path:.*}", Interface().handle)
    web.run_app(
        application,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        backlog=1024,
    )


if __name__ == "__main__":
    main()
