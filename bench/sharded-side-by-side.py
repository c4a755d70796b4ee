#!/usr/bin/env python3
"""A sharded Kontiki, Redis Cluster and etcd on one machine, in one run, interleaved.

Starts three nodes of Kontiki with three groups (each group on all nodes), a Redis Cluster of three
masters with a replica each (`appendfsync always`), and three nodes of etcd, on loopback. Redis
Cluster is measured twice: as it comes, when a write is acknowledged once its master has it on disk
and is lost if that master dies, and with `WAIT 1` behind each write, which is nearer to what the
others do (its replica has the write, though not always on disk). Clients know the slots of Kontiki
and Redis Cluster and send each key to the node that leads it. Otherwise as side-by-side.py.

Needs: cargo build --release; redis-server, redis-cli and etcd in PATH.
"""

import argparse
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "side_by_side"
# The other script is read, not compiled into the tree.
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location(NAME, ROOT / "bench" / "side-by-side.py")
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)

# name, clients, read share
CELLS = [("put-64", 64, 0.0), ("get-64", 64, 1.0), ("put-256", 256, 0.0)]


class RedisCluster(base.System):
    """Three masters, a replica each."""

    def start(self):
        offsets = [*range(6), *range(10000, 10006)]
        first = base.free_ports(offsets)
        self.ports = [first + node for node in range(6)]
        for port in self.ports:
            directory = self.directory / str(port)
            directory.mkdir()
            self.spawn(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                        "--appendonly", "yes", "--appendfsync", "always", "--dir", str(directory),
                        "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"])
        for port in self.ports:
            base.wait_until("Redis", lambda port=port: base.accepts(port))
        subprocess.run(["redis-cli", "--cluster", "create",
                        *(f"127.0.0.1:{port}" for port in self.ports),
                        "--cluster-replicas", "1", "--cluster-yes"],
                       check=True, stdout=subprocess.DEVNULL, timeout=60)
        base.wait_until("Redis Cluster", self.is_whole)

    def ask(self, port, *words):
        done = subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True,
                              text=True, check=True, timeout=5)
        return done.stdout

    def is_whole(self):
        linked = 0
        for port in self.ports:
            if "cluster_state:ok" not in self.ask(port, "CLUSTER", "INFO"):
                return False
            linked += "master_link_status:up" in self.ask(port, "INFO", "replication")
        return linked == 3

    def addresses(self):
        return [f"127.0.0.1:{self.ports[0]}"]

    version = base.Redis.version


class Kontiki(base.Kontiki):
    def addresses(self):
        return [node["resp"] for node in self.status()["nodes"]]


class Etcd(base.Etcd):
    def addresses(self):
        return [f"127.0.0.1:{port}" for port in self.clients]


def measure(binary, system, target, options, cell, seconds):
    name, clients, reads = cell
    command = [binary, "bench", "kv", "--json", "--target", target,
               "--addr", ",".join(system.addresses()), "--clients", str(clients),
               "--value-bytes", "128", "--read-share", str(reads), "--seconds", str(seconds),
               "--server-pids", ",".join(map(str, system.pids())), *options,
               *system.options(clients)]
    if system.metrics():
        command += ["--metrics", ",".join(system.metrics())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 10 * seconds)
    if done.returncode != 0:
        raise SystemExit(f"error: {system.name} {name}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    operations = report["reads"] or report["writes"]
    if operations is None:
        raise SystemExit(f"error: {system.name} {name}: no operation succeeded: "
                         f"{report['first_error']}")
    return report | {figure: operations[figure] for figure in ("p50_us", "p99_us", "p999_us")}


def run(arguments, directory):
    redis = RedisCluster("redis-cluster", directory)
    etcd = Etcd("etcd", directory)
    kontiki = Kontiki("kontiki", directory, arguments.kontiki,
                      ["--groups", str(arguments.groups)])
    # What is measured: name, processes, protocol, options.
    rows = [("kontiki", kontiki, "redis-cluster", []),
            ("redis-cluster", redis, "redis-cluster", []),
            ("redis-cluster-wait-1", redis, "redis-cluster", ["--wait", "1"]),
            ("etcd", etcd, "etcd", [])]
    reports = {name: {} for name, *_ in rows}
    host = base.machine(directory)
    systems = [kontiki, redis, etcd]
    try:
        for system in systems:
            system.start()
        for turn in range(arguments.rounds):
            order = rows[turn % len(rows):] + rows[:turn % len(rows)]
            for cell in CELLS:
                for name, system, target, options in order:
                    # WAIT is of writes only.
                    if options and cell[2]:
                        continue
                    os.sync()
                    report = measure(arguments.kontiki, system, target, options, cell,
                                     arguments.seconds)
                    reports[name].setdefault(cell[0], []).append(report)
                    print(f"round {turn + 1}: {name:21} {cell[0]:8} "
                          f"{report['ops_per_second']:10,.0f}/s", file=sys.stderr)
        versions = {system.name: system.version() for system in systems}
    finally:
        for system in systems:
            system.stop()
    results = {name: {cell: base.summary(found) for cell, found in cells.items()}
               for name, cells in reports.items()}
    ours, theirs = (results[name]["put-64"]["ops_per_second"]
                    for name in ("kontiki", "redis-cluster-wait-1"))
    return {
        "commit": base.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": host,
        "versions": versions,
        "setting": {"rounds": arguments.rounds, "seconds": arguments.seconds, "value_bytes": 128,
                    "keys": 10000, "groups": arguments.groups},
        "comparisons": {"put-64_vs_redis_cluster_wait_1": round(ours / theirs, 3)},
        "results": results,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kontiki", default=str(ROOT / "target/release/kontiki"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "bench/results/kv-sharded.json"))
    parser.add_argument("--dir", default=str(ROOT / "target/sharded-side-by-side"),
                        help="for the servers' data: on the disk to be measured; emptied")
    arguments = parser.parse_args()
    missing = [name for name in ("redis-server", "redis-cli", "etcd") if not shutil.which(name)]
    if missing:
        raise SystemExit(f"error: not installed: {', '.join(missing)}")
    base.publish(arguments, run)


main()
