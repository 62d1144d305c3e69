"""A store that a web server shows, to be read only: its listings are the server's pages of links."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.backend.remote_fsspec import FsspecClient


class WebClient(FsspecClient):
    """As any fsspec file system, but servers that know no ranges send the whole file: it is cut here."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> tuple[bytes, int | None]:
        stop = "" if length is None else start + length - 1
        wanted = {"Range": f"bytes={start}-{stop}"} if start or length is not None else {}
        call = self._get(self._path(name), wanted)
        future = asyncio.run_coroutine_threadsafe(call, self._fs.loop)
        try:
            data, is_part = future.result(self._seconds)
        finally:
            future.cancel()
        if is_part:
            return data, None
        return data[start : None if length is None else start + length], len(data)

    async def _get(self, url: str, headers: dict[str, str]) -> tuple[bytes, bool]:
        """(the body, whether it is the part that was asked for)."""
        session: Any = await self._fs.set_session()
        async with session.get(self._fs.encode_url(url), headers=headers) as answer:
            self._fs._raise_not_found_for_status(answer, url)
            return await answer.read(), answer.status == 206
