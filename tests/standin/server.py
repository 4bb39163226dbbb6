"""The stand-in's server: real HTTP/1.1 and SSE, and transport faults that happen on a real socket.

aiohttp reads requests and frames answers; this file says which answer, at which pace, and how it breaks.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
from collections.abc import Callable, Mapping
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from engine.clock import Clock, RealClock
from tests.standin.cache import Plan, PromptCache
from tests.standin.checks import refused
from tests.standin.models import CATALOGUE
from tests.standin.prefix import blocks, total
from tests.standin.records import Recorded, rate_headers
from tests.standin.script import Answer, Body, Break, HttpError, Reset, Script, Turn
from tests.standin.wire import Message, compose, cut, frames

LARGEST = 32 * 2**20  # bytes of a request
PING_SECONDS = 0.01  # between pings, where there is nothing but pings


_RECORD = web.RequestKey("record", Recorded)


class _Failed(Exception):
    """An error to answer with."""

    def __init__(self, error: HttpError) -> None:
        super().__init__(error.message)
        self.error = error


class Standin:
    """``async with Standin(script) as standin: AsyncAnthropic(base_url=standin.url, api_key="x")``.

    ``key``: the one key accepted; None: any that is not empty. ``speed``: tokens a second, 0 = at once.
    ``clock`` is what cache entries live by and requests are stamped with; ``pace`` is what delays wait on.
    """

    def __init__(
        self,
        script: Script,
        *,
        key: str | None = None,
        speed: float = 0.0,
        clock: Clock | None = None,
        pace: Clock | None = None,
        cache_minimum: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script, self.key, self.speed = script, key, speed
        self.clock, self.pace = clock or RealClock(), pace or RealClock()
        self.cache = PromptCache(cache_minimum)
        self.requests: list[Recorded] = []
        self.url = ""
        self._place = host, port
        self._answered = 0
        self._numbers = itertools.count(1)
        self._paused: set[bytes] = set()
        self._runner: web.AppRunner | None = None
        self._heard = asyncio.Condition()

    @property
    def messages(self) -> list[Recorded]:
        """The requests for a message alone."""
        return [one for one in self.requests if one.path == "/v1/messages"]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until ``true()``, looked at again whenever the server has done something."""
        async with self._heard:
            await self._heard.wait_for(true)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=LARGEST, middlewares=[self._frame])
        app.router.add_post("/v1/messages", self._message)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{id}", self._model)
        # A client that leaves ends the handler: a stalled stream must not outlive its reader.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._place)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # --- every request ---------------------------------------------------------------------------------------

    @web.middleware
    async def _frame(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Records, checks the key, and gives every answer its request-id and every error its body."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        record = Recorded(self.clock.now(), request.method, request.path, headers)
        record.request_id = f"req_{next(self._numbers):06d}"
        request[_RECORD] = record
        self.requests.append(record)
        try:
            self._admit(headers)
            response = await handler(request)
        except _Failed as failed:
            response = self._error(record, failed.error)
        except web.HTTPRequestEntityTooLarge:
            response = self._error(record, HttpError(413, "request_too_large", f"more than {LARGEST} bytes"))
        except web.HTTPNotFound:
            response = self._error(record, HttpError(404, "not_found_error", f"no such path: {request.path}"))
        except web.HTTPMethodNotAllowed:
            response = self._error(record, HttpError(405, "invalid_request_error", "Method Not Allowed"))
        except (asyncio.CancelledError, ConnectionError):
            record.ended = record.ended or "cut by client"
            raise
        finally:
            await self._changed()
        record.status = response.status
        record.ended = record.ended or "whole"
        return response

    def _admit(self, headers: Mapping[str, str]) -> None:
        bearer = headers.get("authorization", "")
        key = bearer[7:] if bearer.startswith("Bearer ") else headers.get("x-api-key", "")
        if not key or (self.key is not None and not hmac.compare_digest(key.encode(), self.key.encode())):
            raise _Failed(HttpError(401, "authentication_error", "invalid x-api-key or bearer token"))
        if not headers.get("anthropic-version"):
            raise _Failed(HttpError(400, "invalid_request_error", "anthropic-version: header is required"))

    def _error(self, record: Recorded, error: HttpError) -> web.Response:
        body = error.body(record.request_id)
        return web.json_response(body, status=error.status, headers={**self._headers(record), **error.headers})

    def _headers(self, record: Recorded) -> dict[str, str]:
        return {"request-id": record.request_id, **rate_headers(self._answered, record.at)}

    async def _body(self, request: web.Request) -> Any:
        try:
            body = json.loads(await request.read())
        except ValueError:
            raise _Failed(HttpError(400, "invalid_request_error", "The request body is not valid JSON")) from None
        request[_RECORD].body = body
        return body

    async def _changed(self) -> None:
        async with self._heard:
            self._heard.notify_all()

    # --- the small ones --------------------------------------------------------------------------------------

    async def _models(self, request: web.Request) -> web.Response:
        data = [model.to_json() for model in CATALOGUE.values()]
        page = {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
        return web.json_response(page, headers=self._headers(request[_RECORD]))

    async def _model(self, request: web.Request) -> web.Response:
        model = CATALOGUE.get(request.match_info["id"])
        if model is None:
            raise _Failed(HttpError(404, "not_found_error", f"model: {request.match_info['id']}"))
        return web.json_response(model.to_json(), headers=self._headers(request[_RECORD]))

    async def _count(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if error := refused(body, counting=True):
            raise _Failed(error)
        return web.json_response({"input_tokens": total(body)}, headers=self._headers(request[_RECORD]))

    # --- a message -------------------------------------------------------------------------------------------

    async def _message(self, request: web.Request) -> web.StreamResponse:
        record = request[_RECORD]
        body = await self._body(request)
        if error := refused(body, paused=self._is_paused(body)):
            raise _Failed(error)
        # max_tokens 0 only warms the cache: there is nothing for a script to say.
        answer = self._asked(body) if body["max_tokens"] else Turn()
        if isinstance(answer, HttpError):
            record.ended = f"HTTP {answer.status}"
            raise _Failed(answer)
        if isinstance(answer, Reset):
            record.ended = "reset"
            return self._abort(request)
        plan = self.cache.plan(body, record.at)
        message = compose(answer, body, plan.usage, len(self.requests))
        if message.stop_reason == "pause_turn":
            self._paused.add(message.digest)
        if body.get("stream"):
            return await self._stream(request, record, message, plan)
        return await self._whole(request, record, message, plan)

    def _asked(self, body: Body) -> Answer:
        number, self._answered = self._answered, self._answered + 1
        try:
            return self.script(body, number)
        except Exception as fault:
            return HttpError(500, "api_error", f"the script failed: {type(fault).__name__}: {fault}")

    def _is_paused(self, body: Any) -> bool:
        try:
            return blocks(body)[-1].digest in self._paused
        except (AttributeError, IndexError, TypeError):  # the checks say what is wrong with it
            return False

    async def _stream(
        self, request: web.Request, record: Recorded, message: Message, plan: Plan
    ) -> web.StreamResponse:
        headers = {**self._headers(record), "cache-control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(request)
        record.status = response.status
        turn, found = message.turn, frames(message)
        going = cut(found, message, turn.fault) if turn.fault else found
        for frame in going:
            if turn.delay is not None and frame.tokens:
                await self.pace.sleep(turn.delay)
            elif turn.delay is None and frame.tokens and self.speed:
                await self.pace.sleep(frame.tokens / self.speed)
            await self._send(response, record, frame.data["type"], frame.encode())
            plan.began()
        if turn.fault:
            record.ended = turn.fault.kind
            if turn.fault.kind in ("drop", "reset"):  # a connection breaks anywhere: in the middle of an event
                half = found[len(going)].encode()
                await response.write(half[: len(half) // 2])
            await self._changed()
            return await self._break(request, record, response, turn.fault)
        await response.write_eof()
        return response

    async def _send(self, response: web.StreamResponse, record: Recorded, kind: str, data: bytes) -> None:
        await response.write(data)
        record.sent.append(kind)
        await self._changed()

    async def _break(
        self, request: web.Request, record: Recorded, response: web.StreamResponse, fault: Break
    ) -> web.StreamResponse:
        if fault.kind == "error":
            event = {"type": "error", "error": dict(fault.error), "request_id": record.request_id}
            data = f"event: error\ndata: {json.dumps(event)}\n\n".encode()
            await self._send(response, record, "error", data)
        if fault.kind == "drop":
            return self._hang_up(request, response)
        if fault.kind == "reset":
            self._abort(request)
            return response
        if fault.kind in ("stall", "open"):
            await asyncio.Event().wait()  # until the client leaves or the server closes
        while fault.kind == "pings":
            await self.pace.sleep(PING_SECONDS)
            await self._send(response, record, "ping", b'event: ping\ndata: {"type": "ping"}\n\n')
        await response.write_eof()
        return response

    async def _whole(
        self, request: web.Request, record: Recorded, message: Message, plan: Plan
    ) -> web.StreamResponse:
        """The same turn as one JSON body, and what its fault amounts to without a stream."""
        fault = message.turn.fault.kind if message.turn.fault else "open"
        record.ended = fault if message.turn.fault else ""
        if fault in ("stall", "pings"):
            await asyncio.Event().wait()
        if fault == "error" and message.turn.fault:
            error = message.turn.fault.error
            raise _Failed(HttpError(529, error["type"], error["message"]))
        if self.speed:
            await self.pace.sleep(message.usage["output_tokens"] / self.speed)
        plan.began()
        content = json.dumps(message.to_json(), ensure_ascii=False).encode()
        if fault == "open":
            return web.Response(body=content, content_type="application/json", headers=self._headers(record))
        response = web.StreamResponse(headers={**self._headers(record), "content-length": str(len(content))})
        response.content_type = "application/json"
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        return self._hang_up(request, response) if fault != "reset" else self._abort(request)

    def _hang_up(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """End the connection after what is written, but not the body."""
        if request.transport is not None:
            request.transport.close()
        return response

    def _abort(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is not None:
            # A plain abort may end in FIN; without lingering the kernel sends RST.
            socket = transport.get_extra_info("socket")
            socket.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
            transport.abort()
        return web.Response()
