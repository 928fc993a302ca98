#!/usr/bin/env python3
"""Attacks a running service from one or more source addresses, and reports what it costs.

usage: attack.py PID CHECKS_ADDRESS ADMIN_ADDRESS TOKEN

Each attack runs beside one good caller with a source address of its own (127.0.0.9). The report has one line an attack:
the peak of the service's memory, its open files, how many connections it holds, how many checks the good caller got
answered and in which time, and whether /livez answered.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import time

SOURCES = [f"127.0.0.{n}" for n in range(2, 6)]
GOOD = "127.0.0.9"
SECONDS = 6


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) // 1024


def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


async def connect(address, source):
    host, port = address
    return await asyncio.open_connection(host, port, local_addr=(source, 0))


async def flood(address, count, send):
    """Opens `count` connections and holds them while `send` writes to each."""

    async def one(number):
        try:
            reader, writer = await connect(address, SOURCES[number % len(SOURCES)])
            await send(reader, writer)
            await asyncio.sleep(3600)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(3600)

    await asyncio.gather(*(one(number) for number in range(count)))


async def write(writer, data):
    writer.write(data)
    await writer.drain()


async def unfinished_header(_, writer):
    await write(writer, b"POST /check HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 400_000)


async def nothing(_, __):
    pass


async def one_request(reader, writer):
    await write(writer, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.read(4096)


async def never_reads(_, writer):
    request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    while True:
        await write(writer, request * 100)


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header that is not indexed, with a value of up to 16,383 + 127 bytes."""

    def integer(number):
        if number < 127:
            return bytes([number])
        number -= 127
        data = [127]
        while number >= 128:
            data.append(number % 128 + 128)
            number //= 128
        return bytes([*data, number])

    return b"\x00" + integer(len(name)) + name + integer(len(value)) + value


def http2(streams, size, zero_window):
    async def send(_, writer):
        window = (4).to_bytes(2, "big") + (0).to_bytes(4, "big") if zero_window else b""
        data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, window)
        for number in range(streams):
            head = b"".join(
                literal(name, value)
                for name, value in [
                    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/check"), (b":authority", b"a"),
                    (b"content-type", b"application/json"), (b"x", b"x" * size),
                ]
            )
            # END_HEADERS, no END_STREAM: the body never comes.
            data += frame(1, 4, 2 * number + 1, head)
        await write(writer, data)

    return send


def slow_bodies(token):
    async def send(_, writer):
        head = f"POST /check HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        await write(writer, head.encode() + b"Content-Length: 16000\r\n\r\n" + b" " * 15_000)

    return send


async def wrong_tokens(reader, writer):
    request = b"POST /check HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong-token-of-a-stranger\r\nContent-Length: 0\r\n\r\n"
    while True:
        await write(writer, request)
        if not await reader.read(4096):
            return


async def request(address, source, data):
    reader, writer = await asyncio.wait_for(connect(address, source), 2)
    try:
        await write(writer, data)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def good_caller(address, token, took, failed, end):
    while time.monotonic() < end:
        number = len(took) + len(failed)
        body = json.dumps({"user_id": f"u{number}", "client_id": "demo-app", "sid": "s", "protocol": "oauth2-refresh-token"})
        head = (
            f"POST /check HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        begun = time.monotonic()
        try:
            answer = await request(address, GOOD, head.encode())
            if b" 200 OK" not in answer:
                raise OSError(answer)
            took.append(time.monotonic() - begun)
        except (OSError, asyncio.TimeoutError) as error:
            failed.append(error)
        await asyncio.sleep(0.01)


async def attack(name, pid, checks, admin, token, target, count, send):
    took, failed, alive = [], [], 0
    end = time.monotonic() + SECONDS
    caller = asyncio.create_task(good_caller(checks, token, took, failed, end))
    # In a process of its own, so that the good caller does not wait for the attack.
    attacker = multiprocessing.Process(target=lambda: asyncio.run(flood(target, count, send)), daemon=True)
    attacker.start()
    memory = descriptors = probes = 0
    while time.monotonic() < end:
        await asyncio.sleep(0.25)
        memory, descriptors, probes = max(memory, resident(pid)), max(descriptors, files(pid)), probes + 1
        try:
            alive += b" 200 OK" in await request(admin, GOOD, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        except (OSError, asyncio.TimeoutError):
            pass
    attacker.kill()
    attacker.join()
    await caller
    took.sort()
    p50, p99 = (took[int(len(took) * part)] * 1000 if took else float("nan") for part in (0.5, 0.99))
    print(
        f"{name:<44} {memory:>7} {descriptors:>6} {len(took):>7} {len(failed):>7} {p50:>7.1f} {p99:>7.1f} {alive:>4}/{probes}",
        flush=True,
    )
    await asyncio.sleep(1)


async def main():
    pid, token = int(sys.argv[1]), sys.argv[4]
    checks, admin = ((host, int(port)) for host, port in (argument.rsplit(":", 1) for argument in sys.argv[2:4]))
    print(f"{'attack':<44} {'RSS MiB':>7} {'files':>6} {'checks':>7} {'failed':>7} {'p50 ms':>7} {'p99 ms':>7} {'livez':>7}")
    for name, target, count, send in [
        ("none", checks, 0, nothing),
        ("900 connections, unfinished 400 kB headers", checks, 900, unfinished_header),
        ("the same on the admin port", admin, 900, unfinished_header),
        ("2000 connections, unfinished headers", checks, 2000, unfinished_header),
        ("2000 connections that send nothing", checks, 2000, nothing),
        ("2000 connections with one request each", checks, 2000, one_request),
        ("400 HTTP/2 connections x 60 x 15 kB headers", checks, 400, http2(60, 15_000, False)),
        ("the same, no window for the answers", checks, 400, http2(60, 15_000, True)),
        ("300 connections that never read", checks, 300, never_reads),
        ("500 slow bodies with a token", checks, 500, slow_bodies(token)),
        ("20 connections with wrong tokens", checks, 20, wrong_tokens),
        ("none again", checks, 0, nothing),
    ]:
        await attack(name, pid, checks, admin, token, target, count, send)


asyncio.run(main())
