"""A fake of Ray's job server: it answers our client as the real one does, and its jobs do what a test tells them."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "a" * 64


@dataclass
class FakeJob:
    """A job. A test may change it while it runs."""

    request: dict[str, Any]
    number: int
    status: str = "RUNNING"
    log: str = ""
    exit_code: int | None = None
    message: str | None = None
    breaks: int = 0  # how many more requests for the log fail

    def as_json(self, name: str) -> dict[str, Any]:
        """The job as the real server describes it."""
        keys = ("entrypoint", "metadata", "runtime_env")
        return {key: self.request[key] for key in keys} | {
            "type": "SUBMISSION", "submission_id": name, "job_id": None, "status": self.status,
            "start_time": self.number, "driver_exit_code": self.exit_code, "message": self.message,
        }  # fmt: skip


@dataclass
class FakeServer:
    """A server whose behaviour a test may set and whose requests it may look at."""

    url: str = ""
    asks_for_token: bool = True
    version: Any = field(default_factory=lambda: {"version": "4", "ray_version": "2.60.0", "ray_commit": "x"})
    begin: dict[str, Any] = field(default_factory=dict)  # fields of each new job
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    packages: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)  # that were shown
    stops: list[str] = field(default_factory=list)
    stopped_as: str = "STOPPED"  # a job may end by itself before it is stopped

    def files_of(self, job: str) -> dict[str, str]:
        """The files that were sent with a job."""
        data = self.packages[self.jobs[job].request["runtime_env"]["working_dir"].rpartition("/")[2]]
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}

    def application(self) -> web.Application:
        """The server's routes."""

        @web.middleware
        async def door(request: web.Request, handler: Any) -> web.StreamResponse:
            shown = request.headers.get("authorization", "")
            self.tokens |= {shown} if shown else set()
            if self.asks_for_token and shown != f"Bearer {TOKEN}":
                return web.Response(status=403 if shown else 401, text="Unauthorized")
            found: web.StreamResponse = await handler(request)
            return found

        async def version(request: web.Request) -> web.Response:
            return web.json_response(self.version)

        async def package(request: web.Request) -> web.Response:
            name = request.match_info["name"]
            if request.method == "PUT":
                self.packages[name] = await request.read()
            return web.Response(status=200 if name in self.packages else 404)

        async def submit(request: web.Request) -> web.Response:
            given = await request.json()
            name = given["submission_id"]
            if name in self.jobs:
                return web.Response(status=400, text=f"Traceback\nValueError: Job {name} already exists.")
            self.jobs[name] = FakeJob(given, len(self.jobs), **self.begin)
            return web.json_response({"job_id": name, "submission_id": name})

        async def listed(request: web.Request) -> web.Response:
            return web.json_response([job.as_json(name) for name, job in self.jobs.items()])

        async def info(request: web.Request) -> web.Response:
            name = request.match_info["name"]
            return web.json_response(self.jobs[name].as_json(name))

        async def logs(request: web.Request) -> web.Response:
            job = self.jobs[request.match_info["name"]]
            if job.breaks:
                job.breaks -= 1
                return web.Response(status=500, text="Traceback")
            return web.json_response({"logs": job.log})

        async def stop(request: web.Request) -> web.Response:
            name = request.match_info["name"]
            self.stops.append(name)
            self.jobs[name].status = self.stopped_as
            return web.json_response({"stopped": True})

        found = web.Application(middlewares=[door])
        found.add_routes([
            web.get("/api/version", version), web.get("/api/packages/gcs/{name}", package),
            web.put("/api/packages/gcs/{name}", package), web.post("/api/jobs/", submit), web.get("/api/jobs/", listed),
            web.get("/api/jobs/{name}", info), web.get("/api/jobs/{name}/logs", logs),
            web.post("/api/jobs/{name}/stop", stop),
        ])  # fmt: skip
        return found


@contextmanager
def fake_job_server() -> Iterator[FakeServer]:
    """Run a server in a thread of its own, on a loopback port."""
    server, loop, ready = FakeServer(), asyncio.new_event_loop(), threading.Event()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(server.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
