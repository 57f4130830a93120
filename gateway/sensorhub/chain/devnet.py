"""The development chain served as JSON-RPC 2.0 over HTTP, in a process of its own.

For demonstrations and tests only: it is in memory and gone when the process ends, its funded key is known to
everybody, and it listens on loopback addresses only.

    python -m sensorhub.chain.devnet --port 8545
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from sensorhub.addresses import authority
from sensorhub.chain.errors import ChainError

PARSE_ERROR: Final = -32700
MAX_BODY: Final = 4 * 1024 * 1024
MAX_BATCH: Final = 100
START_TIMEOUT_S: Final = 60.0


async def serve(
    host: str = "127.0.0.1",
    port: int = 8545,
    *,
    funded: Sequence[bytes] = (),
    deploy: bool = True,
    block_time: float | None = None,
    ready: Callable[[dict[str, Any]], None] = lambda _info: None,
    stop: asyncio.Event | None = None,
) -> None:
    """Runs a fresh development chain until `stop` is set.

    Args:
        host: loopback address to listen on.
        port: TCP port, 0 for a free one.
        funded: 20-byte addresses that get money at genesis, besides the development account.
        deploy: whether the contract is in block 1, always at the same address.
        block_time: seconds between blocks; None makes a block for every transaction at once.
        ready: called once requests are answered, with `url`, `chain_id`, `contract` and `key` (the public
            development key) as JSON values.

    Raises:
        ChainError: the host is not a loopback address, or the port is taken.
    """
    from sensorhub.chain import devchain

    if not ipaddress.ip_address(host).is_loopback:
        raise ChainError(f"the development chain listens on loopback addresses only, not on {host}")
    chain = devchain.DevChain(funded=funded, deploy=deploy, mine_each=block_time is None)

    async def handle(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read())
        except ConnectionResetError:
            return web.Response(status=400)  # whoever asked is gone
        except (ValueError, RecursionError):
            error = {"code": PARSE_ERROR, "message": "the body is not JSON"}
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": error})
        if isinstance(body, list):
            return web.json_response([chain.answer(one) for one in body[:MAX_BATCH]])
        return web.json_response(chain.answer(body))

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ChainError(
                f"the development chain cannot listen on {authority(host, port)}: {error.strerror}"
            ) from error
        port = runner.addresses[0][1]
        ready(
            {
                "url": f"http://{authority(host, port)}",
                "chain_id": chain.chain_id,
                "contract": "0x" + devchain.DEV_CONTRACT.hex() if deploy else None,
                "key": "0x" + devchain.DEV_KEY.hex(),
            }
        )
        stop = stop or asyncio.Event()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), block_time)
            if block_time is not None and not stop.is_set():
                chain.mine()
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Devnet:
    """A running development chain: where it is, and the account that everybody knows."""

    url: str
    chain_id: int
    contract: str | None
    key: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def running(
    *, port: int = 0, funded: Sequence[bytes] = (), deploy: bool = True, block_time: float | None = None
) -> Iterator[Devnet]:
    """A development chain in a child process for as long as the `with` block lasts.

    Raises:
        ChainError: the process ended instead of answering; its own words are in the text.
    """
    argv = [sys.executable, "-m", "sensorhub.chain.devnet", "--port", str(port), "--json"]
    for address in funded:
        argv += ["--fund", "0x" + address.hex()]
    if not deploy:
        argv.append("--no-deploy")
    if block_time is not None:
        argv += ["--block-time", str(block_time)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise ChainError("the development chain did not start: see its message above")
            yield Devnet(process=process, **json.loads(line))
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(text: str) -> bytes:
    raw = bytes.fromhex(text.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError
    return raw


def _end_with_stdin(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 64):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


async def _main(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.json:
        # Whoever started this process for itself holds the other end of stdin: when it is gone, so are we.
        loop.add_reader(sys.stdin.fileno(), _end_with_stdin, stop)

    def ready(info: dict[str, Any]) -> None:
        if options.json:
            print(json.dumps(info), flush=True)
        else:
            print(
                f"development chain {info['chain_id']} at {info['url']}, GatewayLog at {info['contract']}",
                flush=True,
            )

    await serve(
        options.host,
        options.port,
        funded=options.fund,
        deploy=not options.no_deploy,
        block_time=options.block_time,
        ready=ready,
        stop=stop,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of `python -m sensorhub.chain.devnet`; the exit code. Arguments of the process when None."""
    parser = argparse.ArgumentParser(description="Run a development chain in memory.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--fund", action="append", default=[], type=_address, help="address that gets money")
    parser.add_argument("--block-time", type=float, default=None, help="seconds between blocks")
    parser.add_argument("--no-deploy", action="store_true", help="start without the contract")
    parser.add_argument(
        "--json", action="store_true", help="say where it listens as one line of JSON; end with stdin"
    )
    try:
        asyncio.run(_main(parser.parse_args(argv)))
    except ChainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
