"""Just enough HTTP/1.1 to stand between a client and a store: whole messages, byte for byte."""

import dataclasses
import urllib.parse

HEAD_BYTES_MAX = 64 * 1024


@dataclasses.dataclass
class Request:
    head: bytes
    body: bytes
    method: str
    path: str
    query: dict
    headers: dict

    @property
    def whole(self):
        return self.head + self.body


@dataclasses.dataclass
class Answer:
    head: bytes
    body: bytes
    status: int
    closes: bool

    @property
    def whole(self):
        return self.head + self.body


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, text = line.partition(":")
        headers[name.strip().lower()] = text.strip()
    return head, first, headers


async def read_request(reader):
    head, first, headers = await read_head(reader)
    method, target, _ = first.split(" ", 2)
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    body = await read_body(reader, headers, otherwise=b"")
    return Request(head, body, method, urllib.parse.unquote(url.path), query, headers)


async def read_answer(reader, method):
    head, first, headers = await read_head(reader)
    status = int(first.split(" ", 2)[1])
    if method == "HEAD" or status in (204, 304):
        body = b""
    else:
        body = await read_body(reader, headers, otherwise=None)
    return Answer(head, body, status, headers.get("connection", "").lower() == "close")


async def read_body(reader, headers, otherwise):
    """Its bytes as they are on the wire; `otherwise`: without a length, None reads to the end."""
    if "chunked" in headers.get("transfer-encoding", ""):
        return await read_chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if otherwise is None else otherwise


async def read_chunks(reader):
    parts = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        parts += [line, await reader.readexactly(size + 2)]
        if size == 0:
            return b"".join(parts)


def error(status, code):
    """An answer of the store's kind, made by the proxy."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>made by the fault proxy</Message></Error>"
    ).encode()
    head = (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    return Answer(head, body, status, False)
