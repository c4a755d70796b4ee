#!/usr/bin/env python3
"""Kontiki, etcd and Redis on one machine, in one run, interleaved.

Starts three nodes of Kontiki, three of etcd and one Redis (`appendfsync always`) on loopback,
then goes round after round through the cells below, each system in turn and in another order
each round, so that whatever else the machine does hits all of them. What one has left in the page
cache is written back before the next is measured. The median of the rounds counts. Writes JSON and
prints the table. Stops every server it started, also when it fails.

Needs: cargo build --release; redis-server and etcd in PATH (Debian: redis-server, etcd-server).
The load comes from `kontiki bench kv` for all three. etcd is called by gRPC, the others by RESP,
which is part of any difference.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0

# name, clients, read share, where the clients connect
CELLS = [
    ("put-64-leader", 64, 0.0, "leader"),
    ("put-64-spread", 64, 0.0, "spread"),
    ("get-64-leader", 64, 1.0, "leader"),
    ("get-64-spread", 64, 1.0, "spread"),
    ("put-1-leader", 1, 0.0, "leader"),
    ("put-256-leader", 256, 0.0, "leader"),
    ("put-256-spread", 256, 0.0, "spread"),
]

# Figures of a report whose median is kept, and their names in the results.
FIGURES = {
    "ops_per_second": "ops_per_second",
    "p50_us": "p50_us",
    "p99_us": "p99_us",
    "p999_us": "p999_us",
    "ops_per_server_cpu_second": "ops_per_server_cpu_second",
    "syncs_per_second": "fdatasyncs_per_second",
    "server_disk_bytes_per_op": "disk_bytes_per_op",
    "server_rss_bytes": "server_rss_bytes",
    "generator_cpu_seconds": "generator_cpu_seconds",
}


def free_ports(offsets=(0,)):
    """A base port, all of whose offsets are free now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = probe.getsockname()[1]
        # Below the range that outgoing connections take their ports from.
        base = 10000 + base % 20000
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for offset in offsets:
                held.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            return base


def wait_until(what, done):
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError, subprocess.SubprocessError):
            if done():
                return
        time.sleep(0.05)
    raise SystemExit(f"error: {what} did not come up within {START_TIMEOUT:.0f} s")


def accepts(port):
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class System:
    """One system under test: its processes and where it is reached."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.processes = []

    def spawn(self, command, **options):
        log = open(self.directory / f"{len(self.processes)}.log", "wb")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            **options)
        self.processes.append(process)

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                # The session outlives its first process if that left children behind.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + STOP_TIMEOUT
            for process in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))

    def pids(self):
        return [process.pid for process in self.processes]

    def metrics(self):
        return []

    def options(self, clients):
        return []


class Redis(System):
    target = "redis"
    places = ["single"]

    def start(self):
        self.port = free_ports()
        self.spawn(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                    "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self.directory)])
        wait_until("Redis", lambda: accepts(self.port))

    def addresses(self, place):
        return [f"127.0.0.1:{self.port}"]

    def version(self):
        return subprocess.run(["redis-server", "--version"], capture_output=True, text=True,
                              check=True).stdout.split()[2].removeprefix("v=")


class Etcd(System):
    target = "etcd"
    places = ["leader", "spread"]

    def start(self):
        base = free_ports(range(6))
        self.clients = [base, base + 1, base + 2]
        peers = [f"http://127.0.0.1:{base + 3 + node}" for node in range(3)]
        cluster = ",".join(f"n{node}={peer}" for node, peer in enumerate(peers))
        for node in range(3):
            client = f"http://127.0.0.1:{self.clients[node]}"
            self.spawn(["etcd", "--name", f"n{node}",
                        "--data-dir", str(self.directory / f"n{node}"),
                        "--listen-client-urls", client, "--advertise-client-urls", client,
                        "--listen-peer-urls", peers[node],
                        "--initial-advertise-peer-urls", peers[node],
                        "--initial-cluster", cluster, "--initial-cluster-state", "new"])
        wait_until("etcd", lambda: self.leader() is not None)

    def leader(self):
        for port in self.clients:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}", method="POST")
            with urllib.request.urlopen(request, timeout=2) as reply:
                status = json.load(reply)
            if status["leader"] == status["header"]["member_id"]:
                return port
        return None

    def addresses(self, place):
        ports = [self.leader()] if place == "leader" else self.clients
        return [f"127.0.0.1:{port}" for port in ports]

    def metrics(self):
        return [f"http://127.0.0.1:{port}/metrics" for port in self.clients]

    def options(self, clients):
        # Eight calls on a connection are what etcd is fastest with; one each costs it a sixth.
        return ["--connections", str(max(1, clients // 8))]

    def version(self):
        return subprocess.run(["etcd", "--version"], capture_output=True, text=True,
                              check=True).stdout.split()[2]


class Kontiki(System):
    target = "kontiki"
    places = ["leader", "spread"]

    def __init__(self, name, directory, binary, extra):
        super().__init__(name, directory)
        self.binary = binary
        # One group, unless told otherwise: what a single etcd cluster is.
        self.extra = extra if "--groups" in extra else ["--groups", "1", *extra]

    def start(self):
        base = free_ports([add + node for add in (0, 100, 200) for node in (1, 2, 3)])
        self.admin = f"127.0.0.1:{base + 101}"
        self.spawn([self.binary, "up", "--nodes", "3", "--dir", str(self.directory / "data"),
                    "--base-port", str(base), *self.extra])
        wait_until("Kontiki", lambda: self.leader() is not None)

    def status(self):
        reply = subprocess.run([self.binary, "cluster", "status", "--json", "--addr", self.admin],
                               capture_output=True, text=True, check=True, timeout=5)
        return json.loads(reply.stdout)

    def leader(self):
        status = self.status()
        leaders = [group["leader"] for group in status["groups"] if group["id"] != 0]
        nodes = [node for node in status["nodes"] if leaders and node["id"] == leaders[0]]
        return nodes[0] if nodes and all(node["alive"] for node in status["nodes"]) else None

    def addresses(self, place):
        nodes = [self.leader()] if place == "leader" else self.status()["nodes"]
        return [node["resp"] for node in nodes]

    def pids(self):
        return [node["pid"] for node in self.status()["nodes"]]

    def metrics(self):
        return [f"http://{node['http']}/metrics" for node in self.status()["nodes"]]

    def version(self):
        reply = subprocess.run([self.binary, "--version"], capture_output=True, text=True)
        return reply.stdout.split()[-1] if reply.stdout.split() else None


def measure(binary, system, cell, seconds):
    """One run of the load generator; its report."""
    name, clients, reads, place = cell
    command = [binary, "bench", "kv", "--json", "--target", system.target,
               "--addr", ",".join(system.addresses(place)), "--clients", str(clients),
               "--value-bytes", "128", "--read-share", str(reads), "--seconds", str(seconds),
               "--server-pids", ",".join(map(str, system.pids())), *system.options(clients)]
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
    report |= {figure: operations[figure] for figure in ("p50_us", "p99_us", "p999_us")}
    return report


def summary(reports):
    """The medians of several reports of one cell, their spread, and all errors."""
    result = {}
    for figure, name in FIGURES.items():
        values = [report[figure] for report in reports if report[figure] is not None]
        result[name] = statistics.median(values) if values else None
    rates = [report["ops_per_second"] for report in reports]
    result |= {
        "ops_per_second_min": min(rates),
        "ops_per_second_max": max(rates),
        "longest_gap_ms": max(report["longest_gap_ms"] for report in reports),
        "errors": sum(report["errors"] for report in reports),
        "first_error": next(filter(None, (report["first_error"] for report in reports)), None),
    }
    return result


def ratio(results, cell, figure, invert=False):
    ours, theirs = (results.get(system, {}).get(cell, {}).get(figure) for system in
                    ("kontiki", "etcd"))
    if not ours or not theirs:
        return None
    return theirs / ours if invert else ours / theirs


def comparisons(results):
    """What issue 2 asks for, and the figure beside Redis."""
    pairs = {f"{cell}_vs_etcd": ratio(results, cell, "ops_per_second") for cell, *_ in CELLS}
    pairs["put-1-leader_p50_share_of_etcd"] = ratio(results, "put-1-leader", "p50_us")
    ours = results.get("kontiki", {})
    for operation in ("put-64", "get-64", "put-256"):
        redis = results.get("redis", {}).get(f"{operation}-single")
        if redis and f"{operation}-leader" in ours:
            rates = ours[f"{operation}-leader"]["ops_per_second"], redis["ops_per_second"]
            pairs[f"{operation}-leader_vs_redis"] = rates[0] / rates[1]
    return {name: round(value, 3) for name, value in pairs.items() if value is not None}


def fdatasync_us(directory):
    """The median time of an fdatasync after 4 KiB into a preallocated file here."""
    path, times = directory / "fdatasync-probe", []
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(4 << 20))
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(300):
            file.write(os.urandom(4096))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1e6)
    path.unlink()
    return round(statistics.median(times), 1)


def machine(directory):
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")),
                 "unknown")
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(memory / (1 << 20), 1),
        "kernel": os.uname().release,
        "fdatasync_us": fdatasync_us(directory),
    }


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True,
                              text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def table(results):
    """The results as Markdown, a row for each system and cell."""
    def show(value, digits=0):
        return "-" if value is None else f"{value:,.{digits}f}"
    lines = ["| cell | system | ops/s | p50 ms | p99 ms | ops per server CPU s | fdatasyncs/s |"
             " errors |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    cells = [cell for system in results.values() for cell in system]
    for cell in sorted(set(cells), key=cells.index):
        for system, found in results.items():
            if cell not in found:
                continue
            figures = found[cell]
            lines.append(" | ".join([
                f"| {cell}", system, show(figures["ops_per_second"]),
                show(figures["p50_us"] / 1e3, 2), show(figures["p99_us"] / 1e3, 2),
                show(figures["ops_per_server_cpu_second"]),
                show(figures["fdatasyncs_per_second"]), f"{figures['errors']} |"]))
    return "\n".join(lines)


def at(cell, system):
    """The cell at the places this system has; Redis has one server, thus one place."""
    name, clients, reads, place = cell
    if system.places != ["single"]:
        return cell
    if place != "leader":
        return None
    return name.replace("leader", "single"), clients, reads, "single"


def run(arguments, directory):
    systems = []
    if "redis" in arguments.only:
        systems.append(Redis("redis", directory))
    if "etcd" in arguments.only:
        systems.append(Etcd("etcd", directory))
    if "kontiki" in arguments.only:
        systems.append(Kontiki("kontiki", directory, arguments.kontiki, arguments.kontiki_args))
    if arguments.lease_args:
        systems.append(Kontiki("kontiki-lease", directory, arguments.kontiki,
                               arguments.kontiki_args + arguments.lease_args))
    reports = {system.name: {} for system in systems}
    host = machine(directory)
    try:
        for system in systems:
            system.start()
        for turn in range(arguments.rounds):
            order = systems[turn % len(systems):] + systems[:turn % len(systems)]
            for system, cell in ((system, at(cell, system)) for cell in CELLS for system in order):
                # Leases change reads only.
                if cell is None or (system.name == "kontiki-lease" and not cell[2]):
                    continue
                os.sync()
                report = measure(arguments.kontiki, system, cell, arguments.seconds)
                reports[system.name].setdefault(cell[0], []).append(report)
                print(f"round {turn + 1}: {system.name:13} {cell[0]:15} "
                      f"{report['ops_per_second']:10,.0f}/s", file=sys.stderr)
        versions = {system.name: system.version() for system in systems}
    finally:
        for system in systems:
            system.stop()
    results = {name: {cell: summary(found) for cell, found in cells.items()}
               for name, cells in reports.items()}
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": host,
        "versions": versions,
        "setting": {
            "rounds": arguments.rounds, "seconds": arguments.seconds, "value_bytes": 128,
            "keys": 10000, "nodes": {"redis": 1, "etcd": 3, "kontiki": 3},
            "generator": "kontiki bench kv, on the same machine",
            "etcd_connections": "one for 8 clients",
            "durability": "all of them reply after fdatasync",
        },
        "results": results,
        "comparisons": comparisons(results),
    }


def publish(arguments, run):
    """Measures by `run` in an empty `arguments.dir`, writes `arguments.out`, prints the table."""
    # Ends by an exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(arguments.dir)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    document = run(arguments, directory)
    shutil.rmtree(directory, ignore_errors=True)
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    print(table(document["results"]))
    for name, value in document["comparisons"].items():
        print(f"{name}: {value}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kontiki", default=str(ROOT / "target/release/kontiki"),
                        help="the binary (default: target/release/kontiki)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a measurement; default: 3")
    parser.add_argument("--only", default="redis,etcd,kontiki", type=lambda text: text.split(","),
                        help="systems; default: redis,etcd,kontiki")
    parser.add_argument("--kontiki-args", default=[], type=str.split,
                        help="further arguments of `kontiki up`")
    parser.add_argument("--lease-args", default=[], type=str.split,
                        help="measure the reads of a second cluster with these arguments as well")
    parser.add_argument("--out", default=str(ROOT / "bench/results/kv-side-by-side.json"))
    parser.add_argument("--dir", default=str(ROOT / "target/side-by-side"),
                        help="for the servers' data: on the disk to be measured; emptied")
    arguments = parser.parse_args()
    for program in [arguments.kontiki] + [{"redis": "redis-server"}.get(name, name)
                                          for name in arguments.only if name != "kontiki"]:
        if shutil.which(program) is None:
            raise SystemExit(f"error: {program} is not there")
    publish(arguments, run)


if __name__ == "__main__":
    main()
