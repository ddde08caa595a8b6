"""A child process that holds one library at one thread count and times its jobs on request.

One process per library keeps thread pools and environment variables apart: XLA reads its thread settings once, and
two OpenMP runtimes in one process disturb each other. The parent lets one child work at a time.
Requests and answers are lines of JSON: {"do": "prepare" | "run" | "check" | "paces", ...} -> {...}; or {"error": text}
or {"skip": text}.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import math
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path


def limit_cores(threads: int) -> None:
    """Leave this process as many cores as it may have threads: the one limit that every library obeys."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


class Timer:
    """Serves one library: prepares a workload (warm-up, thread choice, number of epochs), then times it."""

    def __init__(self, peer, threads: int):
        self.peer, self.threads = peer, threads
        self.job = self.epochs = self.workload = None

    def prepare(self, workload: str, n: int, seconds: float, least: int) -> dict:
        from peers.workloads import BY_NAME, make_data

        self.job = None
        gc.collect()
        self.workload = replace(BY_NAME[workload], n=n)
        self.data = make_data(self.workload) if self.peer.__name__ != "peers.sgemm_peer" else (None, None)
        best = None
        for threads in self.peer.thread_choices(self.threads):
            job = self.peer.make_job(self.workload, *self.data, threads)
            start = time.perf_counter()
            job.run(1)  # compiles, fills caches
            first = time.perf_counter() - start
            epochs, each = calibrate(job, seconds, least)
            if best is None or each < best[0]:
                best = (each, epochs, threads, job, first)
        each, self.epochs, threads, self.job, first = best
        return {"threads": threads, "epochs": self.epochs, "warm_up_s": first}

    def run(self) -> dict:
        gc.collect()
        return {"seconds": self.job.run(self.epochs) / self.epochs}

    def paces(self, seconds: float) -> dict:
        return self.peer.paces(self.threads, seconds)

    def check(self, epochs: int) -> dict:
        from peers.workloads import training_loss

        self.job.run(epochs)
        return {"loss": training_loss(self.workload, *self.data, *self.job.weights())}


def calibrate(job, seconds: float, least: int) -> tuple[int, float]:
    """Epochs that take at least `seconds`, and the time of one."""
    epochs = least
    while True:
        taken = job.run(epochs)
        if taken >= seconds:
            return epochs, taken / epochs
        growth = 1.15 * seconds / max(taken, 1e-9)
        epochs = math.ceil(epochs * min(max(growth, 1.2), 100.0))


def answer(timer: Timer, request: dict) -> dict:
    do = request.pop("do")
    try:
        work = {"prepare": timer.prepare, "run": timer.run, "check": timer.check, "paces": timer.paces}
        return work[do](**request)
    except NotImplementedError as reason:
        return {"skip": str(reason) or "not implemented"}
    except Exception:
        return {"error": traceback.format_exc(limit=4)}


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    limit_cores(threads)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    scripts = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(scripts))
    if name == "fastnn" and importlib.util.find_spec("fastnn") is None:
        sys.path.insert(1, str(scripts.parent))  # not installed: use the checkout
    try:
        peer = importlib.import_module(f"peers.{name}_peer")
        hello = {"version": peer.VERSION, "blas": importlib.import_module("_blas_kernel").in_use()}
    except ImportError as reason:
        hello = {"missing": str(reason)}
    print(json.dumps(hello), file=replies, flush=True)
    if "missing" in hello:
        return
    timer = Timer(peer, threads)
    for line in sys.stdin:
        print(json.dumps(answer(timer, json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
