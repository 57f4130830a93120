"""`sensorhub chain`: the anchoring contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sensorhub import processes
from sensorhub.cli.terminal import context, open_log
from sensorhub.errors import SensorhubError
from sensorhub.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The anchoring contract.")


def _key_path(values: Settings) -> Path:
    """Where the gateway's account is kept, in a data directory that nobody else can read."""
    processes.make_data_dir(values.data_dir)
    return processes.chain_key_path(values)


@app.command("deploy")
def chain_deploy(
    max_fee_gwei: Annotated[float, typer.Option(help="Never pay more than this per gas, in gwei.")] = 100.0,
) -> None:
    """Deploy the GatewayLog contract with the gateway's key; prints two lines for [chain] of the settings file."""
    from sensorhub.chain.contract import GatewayLogContract, connect
    from sensorhub.chain.digest import address
    from sensorhub.chain.key import load_or_create

    values = context.settings()
    if not values.chain.rpc_url:
        raise SensorhubError("chain.rpc_url is not set: which chain should the contract be deployed on?")
    key = load_or_create(_key_path(values))
    web3 = connect(values.chain.rpc_url)
    typer.echo(f"deploying from 0x{address(key.public_key).hex()}", err=True)
    contract = GatewayLogContract.deploy(web3, key, max_fee_gwei=max_fee_gwei)
    typer.echo(
        "deployed; these two lines go under [chain] in sensorhub.toml before the log is begun:", err=True
    )
    # without [chain], which the file may have: a second one would be a TOML error
    typer.echo(f'contract = "0x{contract.address.hex()}"\nchain_id = {contract.chain_id()}')


def _asked(number: int) -> None:
    typer.echo(f"request {number} waits for the chain process; see: sensorhub chain requests")


@app.command("flag")
def chain_flag(
    start: Annotated[int, typer.Argument(help="First log entry.")],
    stop: Annotated[
        int | None, typer.Argument(help="Entry after the last; without it, all that follow.")
    ] = None,
    reason: Annotated[str, typer.Option(help="What is wrong with them; public for ever.")] = "",
) -> None:
    """Flag log entries in the contract, for ever. Nothing is deleted; verifiers report the flag."""
    from sensorhub.chain.requests import FOR_EVER, ask_flag

    if not reason:
        raise SensorhubError("a flag without a reason helps nobody: give --reason")
    _asked(
        ask_flag(
            context.settings().data_dir / "chain.sqlite", start, FOR_EVER if stop is None else stop, reason
        )
    )


@app.command("close")
def chain_close(
    yes: Annotated[bool, typer.Option("--yes", help="Really: no checkpoint can ever follow.")] = False,
) -> None:
    """Close the log in the contract, for ever."""
    from sensorhub.chain.requests import ask_close

    if not yes:
        raise SensorhubError(
            "closing cannot be undone: no checkpoint of this log can follow; add --yes to do it"
        )
    _asked(ask_close(context.settings().data_dir / "chain.sqlite"))


@app.command("rotate")
def chain_rotate(
    key_file: Annotated[Path, typer.Argument(help="File with the new private key; made when missing.")],
) -> None:
    """Hand the log to a new key in the contract; then set chain.key_file to it and restart the chain process."""
    from sensorhub.chain import digest
    from sensorhub.chain.contract import GatewayLogContract, connect
    from sensorhub.chain.key import load_or_create
    from sensorhub.chain.requests import ask_rotate
    from sensorhub.log.merkle import leaf_hash

    values = context.settings()
    reader = open_log()
    if not (values.chain.rpc_url and values.chain.contract):
        raise SensorhubError("chain.rpc_url and chain.contract are not set: there is nothing to rotate")
    contract = GatewayLogContract(connect(values.chain.rpc_url), bytes.fromhex(values.chain.contract[2:]))
    key = load_or_create(key_file)
    address, log_id = digest.address(key.public_key), leaf_hash(reader.entry(0))
    hashed = digest.rotate_hash(log_id, contract.head(log_id).nonce, address)
    proof = digest.sign(digest.typed_digest(hashed, contract.chain_id(), contract.address), key)
    _asked(ask_rotate(values.data_dir / "chain.sqlite", address, proof))


@app.command("requests")
def chain_requests() -> None:
    """List what the chain process was asked to do, and how far it is."""
    from sensorhub.chain.requests import read_requests

    requests = read_requests(context.settings().data_dir / "chain.sqlite")
    if not requests:
        typer.echo("the chain process was asked nothing", err=True)
    for request in requests:
        typer.echo(f"{request.id:4} {request.kind:7} {request.state:8} {request.error or ''}")


@app.command("address")
def chain_address() -> None:
    """Print the gateway's account address; it needs money to post."""
    from sensorhub.chain.digest import address
    from sensorhub.chain.key import load_or_create

    typer.echo("0x" + address(load_or_create(_key_path(context.settings())).public_key).hex())
