"""Time fastnn beside scikit-learn, PyTorch and JAX on the same jobs, in interleaved rounds.

Every library works in a child process of its own that may use as many cores as the table says threads. A round lets
each library train once, in an order that rotates from round to round; the table shows medians over the rounds.
A time is that of a whole fit divided by its epochs; a fit has at least three epochs and lasts at least --seconds.
All libraries get the same float32 data, network, batch, rate, momentum and L2, and reshuffle in every epoch:
scikit-learn and fastnn as estimators, PyTorch with tensors made once, batches by index, fused optimizers and the
better of one thread and all, JAX with one jit per epoch. The share of the peak is the arithmetic of the products
alone, divided by the time and by the rate of a 2048^3 sgemm (NumPy's BLAS) in the same rounds. "products alone" is no
library: fastnn's kernels do the products of the same steps, and Adam's pass, on what lies in the nearest caches, and
no thread waits for another. No epoch of fastnn's can be shorter. The child processes run without OPENBLAS_CORETYPE and
OPENBLAS_L2_SIZE, and the kernels that their BLAS runs are printed.

    python scripts/compare_peers.py --quick
    python scripts/compare_peers.py --workload mnist-100 boston --threads 1 --json times.json
    python scripts/compare_peers.py --check          # the training loss every library reaches in five epochs
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _blas_kernel
from peers.workloads import BY_NAME, GROUPS, QUICK, WORKLOADS, Workload

WORKER = Path(__file__).resolve().parent / "peers" / "worker.py"
LIBRARIES = {"fastnn": "fastnn", "sklearn": "scikit-learn", "torch": "PyTorch", "jax": "JAX", "limit": "products alone"}
LIMIT = "limit"  # no library: what its steps take at best, see peers/limit_peer.py
YARDSTICK = "sgemm"
SGEMM_FLOPS = 2 * 2048**3
PACE_SECONDS = 0.03  # of either measurement of the cores' pace
BETWEEN_LOOKS = 0.5  # seconds, while cores are waited for
WHOLE = 0.9  # of all cores were there: the run was not disturbed
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class Child:
    """The process of one library at one thread count; see peers/worker.py."""

    def __init__(self, name: str, threads: int):
        environment = _blas_kernel.environment(PYTHONUNBUFFERED="1")
        environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        if name == "jax":
            environment["JAX_PLATFORMS"] = "cpu"
            if threads == 1:
                flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
                environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}".strip()
        command = [sys.executable, str(WORKER), name, str(threads)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.name = name
        self.version = self.missing = None
        self.blas = []  # the kernels of its BLAS libraries

    def greet(self) -> None:
        """Wait until the library is imported, or is known to be missing."""
        hello = self._read()
        self.version, self.missing = hello.get("version"), hello.get("missing")
        self.blas = hello.get("blas", [])

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.name} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, do: str, **request) -> dict:
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        reply = self._read()
        if "error" in reply:
            raise SystemExit(f"{self.name} failed:\n{reply['error']}")
        return reply

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def start_children(names: list[str], threads: int) -> tuple[dict[str, Child], dict[str, str]]:
    """The libraries that can be imported, and why the others are missing."""
    children, missing = {}, {}
    for name, child in {name: Child(name, threads) for name in names}.items():
        child.greet()
        if child.missing:
            missing[name] = child.missing
            child.close()
        else:
            children[name] = child
    return children, missing


def time_workload(workload: Workload, children: dict[str, Child], cores: Cores, options) -> dict:
    """All rounds of one workload at one thread count, as one record of the JSON file."""
    ready, skipped = {}, {}
    least = options.least_epochs if workload.kind == "fit" else 1
    for name, child in children.items():
        reply = child.ask("prepare", workload=workload.name, n=workload.n, seconds=options.seconds, least=least)
        if "skip" in reply:
            skipped[name] = reply["skip"]
        else:
            ready[name] = reply
    times, around = time_rounds(ready, children, cores, options.repeats)
    undisturbed = {
        name: [seconds for seconds, there in zip(values, around[name], strict=True) if there >= WHOLE * cores.threads]
        for name, values in times.items()
    }
    return {
        "workload": workload.name,
        "job": workload.describe(),
        "n": workload.n,
        "units": list(workload.units),
        "threads": cores.threads,
        "spread": {name: [min(values), max(values)] for name, values in times.items() if name != YARDSTICK},
        "epochs_per_fit": {name: reply["epochs"] for name, reply in ready.items() if name != YARDSTICK},
        "threads_used": {name: reply["threads"] for name, reply in ready.items() if name != YARDSTICK},
        "skipped": skipped,
        **summary(workload, times),
        "cores": around,
        "undisturbed": {
            "runs": {name: len(values) for name, values in undisturbed.items()},
            **summary(workload, {name: values for name, values in undisturbed.items() if values}),
        },
    }


class Cores:
    """How many cores the machine gives, as the yardstick's process finds it.

    Parameters
    ----------
    child : Child or None
        Of the yardstick; None finds nothing.
    threads : int
    wait : float
        Seconds to wait, at most, before a run while not all cores are there.
    """

    def __init__(self, child: Child | None, threads: int, wait: float):
        self.child, self.threads, self.wait = child, threads, wait
        self.fastest = 0.0  # rate of one thread, the best so far

    def look(self) -> float:
        """Rate of all threads together."""
        paces = self.child.ask("paces", seconds=PACE_SECONDS)
        self.fastest = max(self.fastest, paces["one"])
        return paces["all"]

    def ready(self) -> float:
        """Rate of all threads together once all cores are there, or after the longest wait."""
        end = time.monotonic() + self.wait
        pace = self.look()
        while pace < WHOLE * self.threads * self.fastest and time.monotonic() < end:
            time.sleep(BETWEEN_LOOKS)
            pace = self.look()
        return pace


def time_rounds(
    names: Iterable[str], children: dict[str, Child], cores: Cores, repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of an epoch in every run of every library, and how many cores there were around it."""
    order = list(names)
    times, around = {name: [] for name in order}, {name: [] for name in order}
    for _ in range(repeats):
        for name in order:
            before = cores.child and cores.ready()
            times[name].append(children[name].ask("run")["seconds"])
            if cores.child:
                around[name].append(min(before, cores.look()))
        order = order[1:] + order[:1]
    return times, {name: [pace / cores.fastest for pace in paces] for name, paces in around.items()}


def summary(workload: Workload, times: dict[str, list[float]]) -> dict:
    """Medians of the runs, their ratios to fastnn's, and shares of the yardstick's rate."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    peak = SGEMM_FLOPS / medians.pop(YARDSTICK) if YARDSTICK in medians else None
    found = {"seconds": medians, "peak_gflops": peak and peak / 1e9}
    if "fastnn" in medians:
        own = medians["fastnn"]
        found["ratios"] = {name: value / own for name, value in medians.items() if name != "fastnn"}
    if peak and workload.data not in ("words", "digits"):  # the products of sparse rows and of searches are not counted
        found["share_of_peak"] = {name: workload.flops() / value / peak for name, value in medians.items()}
    return found


def check_workload(workload: Workload, children: dict[str, Child], cores: Cores, options) -> dict:
    """The training loss each library reaches in the same number of epochs: they must do the same work."""
    losses = {}
    for name, child in children.items():
        if name == YARDSTICK or workload.kind != "fit":
            continue
        reply = child.ask("prepare", workload=workload.name, n=workload.n, seconds=0.0, least=1)
        if "skip" not in reply:
            losses[name] = child.ask("check", epochs=options.check_epochs)["loss"]
    return {"workload": workload.name, "job": workload.describe(), "threads": cores.threads, "loss": losses}


def milliseconds(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def print_header(names: list[str], threads: int, check: bool, width: int) -> None:
    what = "training loss after the same epochs" if check else "ms per epoch (times fastnn's)"
    print(f"\n{threads} thread{'s' * (threads > 1)}: {what}")
    cells = [f"{LIBRARIES[name]:>16}" for name in names]
    if not check:
        cells += [f"{'share of peak':>14}", f"{'sgemm GFLOP/s':>14}", f"{'cores':>8}"]
    print(f"{'workload':<{width}}" + "".join(cells), flush=True)


def print_row(record: dict, names: list[str], width: int) -> None:
    if "loss" in record:
        losses = [f"{record['loss'][name]:.5f}" if name in record["loss"] else "-" for name in names]
        print(f"{record['job']:<{width}}" + "".join(f"{text:>16}" for text in losses), flush=True)
        return
    print(f"{record['job']:<{width}}" + cells_of(record, names, record), flush=True)
    rest = record["undisturbed"]
    runs = [rest["runs"][name] for name in names if name in rest["runs"]]
    if any(runs):
        which = f"  of these, undisturbed: {' '.join(map(str, runs))}"
        print(f"{which:<{width}}" + cells_of(rest, names, record), flush=True)


def cells_of(found: dict, names: list[str], record: dict) -> str:
    """One line of the table, without its name: what `summary` found in all runs of a record, or in some."""
    cells = []
    for name in names:
        text = "-"
        if name in found["seconds"]:
            text = milliseconds(found["seconds"][name])
            if name in found.get("ratios", {}):
                text += f" ({found['ratios'][name]:.2f}x)"
            if name == "torch" and record["threads_used"][name] != record["threads"]:
                text += "*"
        cells.append(f"{text:>16}")
    share, peak = found.get("share_of_peak", {}).get("fastnn"), found["peak_gflops"]
    cells.append(f"{share:>14.3f}" if share is not None else f"{'-':>14}")
    cells.append(f"{peak:>14.1f}" if peak else f"{'-':>14}")
    if found is record:
        there = [value for values in record["cores"].values() for value in values]
        cells.append(f"{statistics.median(there):>8.2f}" if there else f"{'-':>8}")
    return "".join(cells)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_options(argv: list[str] | None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four workloads on few rows, under a minute in total")
    parser.add_argument("--workload", nargs="+", metavar="NAME", choices=tuple(BY_NAME), help="only these")
    parser.add_argument("--group", nargs="+", choices=(*GROUPS, "all"), help="default: core")
    parser.add_argument("--peers", nargs="+", choices=tuple(LIBRARIES), default=list(LIBRARIES), help="default: all")
    parser.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1 and the number of cores")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds, default 7 (3 with --quick)")
    parser.add_argument("--seconds", type=float, metavar="S", help="least time of a fit, default 1 (0.05)")
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="wait for all cores before a run, at most S seconds",
    )
    parser.add_argument("--check", action="store_true", help="compare training losses instead of times")
    parser.add_argument("--check-epochs", type=int, default=5, metavar="N", help="epochs of --check, default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    options = parser.parse_args(argv)
    cores = available_cores()
    options.threads = options.threads or sorted({1, cores})
    if not all(1 <= threads <= cores for threads in options.threads):
        parser.error(f"--threads: from 1 to {cores}, the cores of this machine")
    options.repeats = options.repeats or (3 if options.quick else 7)
    options.seconds = options.seconds if options.seconds is not None else (0.05 if options.quick else 1.0)
    options.least_epochs = 1 if options.quick else 3
    return options


def choose_workloads(options) -> list[Workload]:
    if options.workload:
        chosen = [BY_NAME[name] for name in options.workload]
    elif options.quick and not options.group:
        chosen = [BY_NAME[name] for name in QUICK]
    else:
        groups = options.group or ["core"]
        chosen = [w for w in WORKLOADS if w.group in groups or "all" in groups]
    return [w.shrunk() for w in chosen] if options.quick else chosen


def main(argv: list[str] | None = None) -> int:
    options = read_options(argv)
    workloads = choose_workloads(options)
    width = max(len(w.describe()) for w in workloads) + 2
    if options.list:
        for w in WORKLOADS:
            print(f"{w.group:<10}{w.name:<14}{w.describe()}")
        return 0
    print(f"{cpu_name()}, {available_cores()} cores, Python {platform.python_version()}, {options.repeats} rounds")
    results, versions, missing, blas = [], {}, {}, {}
    one_row = check_workload if options.check else time_workload
    for threads in options.threads:
        trained = [name for name in options.peers if name != LIMIT]
        wanted = trained if options.check else [YARDSTICK, *options.peers]
        children, missing = start_children(wanted, threads)
        versions = {name: child.version for name, child in children.items()}
        blas = {name: child.blas for name, child in children.items()}
        if not results:
            print(", ".join(f"{LIBRARIES.get(name, 'NumPy')} {version}" for name, version in versions.items()))
            for name, reason in missing.items():
                print(f"missing: {LIBRARIES.get(name, 'NumPy')} ({reason})")
            print(_blas_kernel.report(sorted({kernel for kernels in blas.values() for kernel in kernels})))
        names = [name for name in options.peers if name in children]
        print_header(names, threads, options.check, width)
        cores = Cores(children.get(YARDSTICK), threads, options.wait)
        for workload in workloads:
            results.append(one_row(workload, children, cores, options))
            print_row(results[-1], names, width)
        for child in children.values():
            child.close()
    if any(r.get("threads_used", {}).get("torch", r["threads"]) != r["threads"] for r in results):
        print("\n* PyTorch was faster with one thread")
    if options.json:
        report = {
            "machine": {"cpu": cpu_name(), "cores": available_cores(), "platform": platform.platform()},
            "python": platform.python_version(),
            "versions": versions,
            "blas": blas,
            "missing": missing,
            "settings": {name: getattr(options, name) for name in ("repeats", "seconds", "wait", "quick")},
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
