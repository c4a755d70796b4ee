#!/usr/bin/env python3
"""`kontiki mr run`, with processes and with threads, and programs written for one task each, in one
run, interleaved.

Makes the data (text of lines drawn from books, and 100-byte records), then runs each task round
after round with each system in turn, as whole processes with their start; the median counts. The
input is in the page cache; the outputs of all systems are compared byte for byte. Writes
bench/results/mr.json and prints the table.

Needs: cargo build --release; cargo build --release in bench/mr/yardstick; a folder with books.
DuckDB and Spark are measured where their Python packages are installed (`--python`), on word count.
"""

import argparse
import datetime
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

DUCKDB = r"""
import duckdb, sys
output, *files = sys.argv[1:]
query = duckdb.connect()
query.execute("set threads = 2")
query.execute("set preserve_insertion_order = false")
rows = query.execute(
    "select word, count(*) from (select unnest(regexp_extract_all(line, '[A-Za-z]+')) as word from "
    "read_csv(?, columns={'line': 'varchar'}, delim='\\x01', quote='', escape='', header=false, "
    "auto_detect=false)) group by word", [files]).fetchall()
with open(output, "w") as out:
    out.writelines(sorted(f"{word} {count}\n" for word, count in rows))
"""

SPARK = r"""
import sys
from pyspark.sql import SparkSession, functions as f
output, *files = sys.argv[1:]
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.memory", "4g").config("spark.sql.shuffle.partitions", "8")
         .getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
words = spark.read.text(files).select(
    f.explode(f.regexp_extract_all("value", f.lit("([A-Za-z]+)"))).alias("word"))
rows = words.groupBy("word").count().collect()
with open(output, "w") as out:
    out.writelines(sorted(f"{row['word']} {row['count']}\n" for row in rows))
spark.stop()
"""


def measure(command):
    """Seconds, CPU seconds and peak MiB of a process and its children."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, said = process.communicate()
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {said.decode(errors='replace')[-2000:]}")
    return seconds


def usage_of(command):
    """Runs a command under a small parent, whose children's usage is this command's."""
    code = ("import os, resource, subprocess, sys, time\n"
            "start = time.monotonic()\n"
            "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            "print(time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
            "sys.exit(done.returncode)\n")
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True,
                          text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
    seconds, cpu, peak = done.stdout.split()[-3:]
    return {"seconds": float(seconds), "cpu_seconds": float(cpu), "peak_mib": float(peak) / 1024}


def digest(parts, in_order):
    """SHA-256 of the outputs: as they are, or their lines in byte order."""
    data = b"".join(Path(part).read_bytes() for part in parts)
    if not in_order:
        data = b"".join(sorted(data.splitlines(keepends=True)))
    return hashlib.sha256(data).hexdigest()


def threads(arguments, task, files, output):
    command = [arguments.kontiki, "mr", "run", task, "--quiet", "--workers", 2, "--output", output,
               "--input", *files]
    if task == "grep":
        command += ["--pattern", arguments.pattern]
    if task == "sort":
        command += ["--memory", "64MiB"]
    return command


def kontiki(arguments, task, files, output):
    return [*threads(arguments, task, files, output), "--processes"]


def yardstick(arguments, task, files, output):
    program = arguments.yardstick
    if task == "grep":
        return [program, "grep", arguments.pattern, output, *files]
    if task == "sort":
        return [program, "sort", 64, *files, output]
    return [program, {"wc": "wc", "indexer": "index"}[task], output, *files]


def systems(arguments, task):
    found = {"kontiki": kontiki, "threads": threads, "yardstick": yardstick}
    if arguments.python and task == "wc":
        for name, code in [("duckdb", DUCKDB), ("spark", SPARK)]:
            module = {"spark": "pyspark"}.get(name, name)
            if subprocess.run([arguments.python, "-c", f"import {module}"],
                              capture_output=True).returncode == 0:
                found[name] = lambda _, __, files, output, code=code: [
                    arguments.python, "-c", code, output, *files]
    return found


def run_once(arguments, make, task, files, folder):
    output = folder / "output"
    if output.is_dir():
        shutil.rmtree(output)
    elif output.exists():
        output.unlink()
    figures = usage_of(make(arguments, task, files, output))
    parts = [output]
    if output.is_dir():
        names = sorted(output.iterdir(), key=lambda path: int(path.name.rsplit("-", 1)[1]))
        parts = names
    return figures, digest(parts, task in ("grep", "sort"))


def machine():
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")]
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {"cpu": model[0] if model else "unknown", "cpus": os.cpu_count(),
            "memory_gib": round(memory / (1 << 20), 1), "kernel": os.uname().release}


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True,
                              text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def comparisons(results):
    """Ours against the others', and absolute times where these are asked for."""
    def seconds(cell, name):
        return results.get(cell, {}).get(name, {}).get("seconds")

    found = {}
    for cell in ("wc", "indexer", "sort", "grep"):
        ours, theirs = seconds(cell, "kontiki"), seconds(cell, "yardstick")
        if ours and theirs:
            found[f"{cell}_vs_yardstick"] = round(ours / theirs, 3)
    for other in ("duckdb", "spark"):
        ours, theirs = seconds("wc", "kontiki"), seconds("wc", other)
        if ours and theirs:
            found[f"wc_faster_than_{other}"] = round(theirs / ours, 2)
    for name, cell, system in (("grep_seconds", "grep", "kontiki"),
                               ("small_seconds", "small", "kontiki"),
                               ("small_threads_seconds", "small", "threads")):
        if seconds(cell, system):
            found[name] = seconds(cell, system)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kontiki", default=str(ROOT / "target/release/kontiki"))
    parser.add_argument("--yardstick", default=str(HERE / "yardstick/target/release/yardstick"))
    parser.add_argument("--books", required=True, help="a folder with text files (ASCII)")
    parser.add_argument("--text", default="1GiB", help="size of the text")
    parser.add_argument("--records", type=int, default=10_000_000, help="records to sort")
    parser.add_argument("--pattern", default="Abolitionist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", default="wc,indexer,grep,sort,small")
    parser.add_argument("--python", help="a Python that has DuckDB or Spark")
    parser.add_argument("--directory", help="where the data go [default: a temporary folder]")
    parser.add_argument("--results", default=str(ROOT / "bench/results/mr.json"))
    arguments = parser.parse_args()
    folder = Path(arguments.directory or tempfile.mkdtemp(prefix="kontiki-mr-"))
    folder.mkdir(parents=True, exist_ok=True)
    books = sorted(str(path) for path in Path(arguments.books).iterdir() if path.is_file())
    text, records = folder / "text", folder / "records"
    generate = [arguments.kontiki, "mr", "gen"]
    if not text.is_dir():
        origin = [word for book in books for word in ("--from", book)]
        measure([*generate, "text", "--size", arguments.text, "--files", "8", "--output", str(text),
                 *origin])
    if not records.is_dir():
        size = str(arguments.records * 100)
        measure([*generate, "sort", "--size", size, "--output", str(records)])
    inputs = {"sort": [str(records / "part-0")], "small": books}
    large = [str(text / f"part-{number}") for number in range(8)]
    # Into the page cache.
    for path in [*large, *inputs["sort"]]:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    results, digests = {}, {}
    for turn in range(arguments.rounds):
        for cell in arguments.tasks.split(","):
            task = "wc" if cell == "small" else cell
            found = list(systems(arguments, task).items())
            found = found[turn % len(found):] + found[:turn % len(found)]
            for name, make in found:
                # The slow ones take their time once.
                if name in ("duckdb", "spark") and (turn > 0 or cell == "small"):
                    continue
                files = inputs.get(cell, large)
                figures, found_digest = run_once(arguments, make, task, files, folder)
                if name == "spark":
                    # Its JVM is nobody's child in the end: what it used is not known.
                    figures = {"seconds": figures["seconds"]}
                if digests.setdefault(cell, found_digest) != found_digest:
                    raise SystemExit(f"{cell}: the output of {name} is another one")
                results.setdefault(cell, {}).setdefault(name, []).append(figures)
                print(f"round {turn + 1}: {cell:8} {name:10} {figures['seconds']:7.2f} s",
                      file=sys.stderr)
    report = {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "setting": {"rounds": arguments.rounds, "text": arguments.text,
                    "records": arguments.records, "workers": 2},
        "results": {cell: {name: {
            "runs": len(runs),
            **{key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]},
        } for name, runs in systems_found.items()} for cell, systems_found in results.items()},
        "digests": digests,
    }
    report["comparisons"] = comparisons(report["results"])
    Path(arguments.results).write_text(json.dumps(report, indent=2) + "\n")
    for cell, found in report["results"].items():
        for name, figures in found.items():
            cpu, peak = (figures.get(key, float("nan")) for key in ("cpu_seconds", "peak_mib"))
            print(f"{cell:8} {name:10} {figures['seconds']:8.3f} s {cpu:8.2f} CPU s "
                  f"{peak:8.0f} MiB ({figures['runs']} runs)")
    if not arguments.directory:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
