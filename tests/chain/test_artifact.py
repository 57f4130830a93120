"""The shipped artifact belongs to the source, and the gas table to the contract."""

import importlib.util
import sys
from pathlib import Path

import pytest

from sensorhub.chain.artifact import gateway_log

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "gateway" / "contracts"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_loaded", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_artifact_is_what_the_source_compiles_to():
    compiler = load(CONTRACTS / "compile.py")
    built = compiler.build()
    assert compiler.ARTIFACT.read_text() == compiler.render(built)
    shipped = gateway_log()
    assert "0x" + shipped.bytecode.hex() == built["bytecode"]
    assert shipped.abi == built["abi"]
    assert shipped.compiler.startswith("vyper 0.4.3")


def test_every_public_function_is_documented():
    source = (CONTRACTS / "GatewayLog.vy").read_text()
    for entry in gateway_log().abi:
        if entry["type"] != "function" or entry["name"] == "reservations":
            continue
        body = source.split(f"def {entry['name']}(")[1].split('"""')[1]
        assert "@notice" in body, entry["name"]
        for argument in entry["inputs"]:
            assert f"@param {argument['name']} " in body, f"{entry['name']}: {argument['name']}"


@pytest.fixture(scope="module")
def bench():
    return load(ROOT / "tests" / "bench" / "bench_gas.py")


def test_the_gas_table_is_current(bench):
    assert (CONTRACTS / "GAS.md").read_text() == bench.render(bench.measure())


def test_the_gas_is_the_same_on_anvil(bench, start_anvil):
    with start_anvil("--port", "0", "--chain-id", "1337") as url:
        rows = bench.measure(bench.rpc_over_http(url), 1337)
    assert (CONTRACTS / "GAS.md").read_text() == bench.render(rows)
