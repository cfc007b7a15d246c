"""`hive cluster init` prepares brokers that trust one authority, and keeps its keys."""

from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from cli.cluster import cluster

NODES = ("--node", "one=10.0.0.1", "--node", "two=10.0.0.2", "--node", "three=10.0.0.3:14222:16222:18222")


def init(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cluster, ["init", str(folder), *words])


def test_every_node_gets_a_configuration_with_the_routes_to_all(tmp_path: Path) -> None:
    result = init(tmp_path, *NODES, "--json")

    assert result.exit_code == 0, result.output
    assert msgspec.json.decode(result.stdout) == {
        "nats": "nats://10.0.0.1:4222,nats://10.0.0.2:4222,nats://10.0.0.3:14222",
        "creds_dir": str(tmp_path / "keys"),
        "replicas": 3,
    }
    text = (tmp_path / "three.conf").read_text()
    assert 'server_name: "three"' in text
    assert 'listen: "10.0.0.3:16222"' in text
    for route in ("10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:16222"):
        assert f"nats-route://{route}" in text
    assert "sync_interval: always" in text


def test_the_configurations_hold_no_secret_and_the_keys_stay(tmp_path: Path) -> None:
    init(tmp_path, *NODES)
    authority = (tmp_path / "keys" / "authority.json").read_bytes()
    seeds = [value for value in msgspec.json.decode(authority).values() if str(value).startswith("S")]

    again = init(tmp_path, *NODES)

    assert again.exit_code == 0
    assert (tmp_path / "keys" / "authority.json").read_bytes() == authority
    assert seeds
    assert not any(seed in (tmp_path / "one.conf").read_text() for seed in seeds)


def test_two_nodes_or_a_name_twice_are_no_cluster(tmp_path: Path) -> None:
    assert init(tmp_path, *NODES[:4]).exit_code == 2
    assert init(tmp_path, *NODES[:4], "--node", "one=10.0.0.3").exit_code == 2
    assert init(tmp_path, *NODES[:4], "--node", "three").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_servers_of_one_host_need_ports_of_their_own(tmp_path: Path) -> None:
    refused = init(tmp_path, *NODES[:4], "--node", "three=10.0.0.1:14222")
    apart = init(tmp_path, *NODES[:4], "--node", "three=10.0.0.1:14222:16222:18222")

    assert refused.exit_code == 2
    assert "10.0.0.1:6222, 10.0.0.1:8222" in refused.output
    assert apart.exit_code == 0
