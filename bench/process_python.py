# SPDX-License-Identifier: MIT
"""Python's multiprocessing, asked what bench/process.c asks of covey."""

import glob
import multiprocessing
import os
import signal
import statistics
import sys
import time

WARM_UP = 3
REPEATS = 21


def nothing():
    pass


def answer(_):
    return 1


def busy(parent):
    while os.getppid() == parent:
        pass


def start(method, mib, n_busy=0):
    memory = bytearray(int(mib) << 20)
    for i in range(0, len(memory), 4096):
        memory[i] = 1
    if n_busy:
        parent = os.getpid()
        for _ in range(int(n_busy)):
            if os.fork() == 0:
                busy(parent)
                os._exit(0)
    context = multiprocessing.get_context(method)
    times = []
    for _ in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        times.append(time.perf_counter() - begin)
    print(f"start_{mib}{'_busy' if n_busy else ''} {statistics.median(times[WARM_UP:]) * 1e6:.1f}")


def pool(method):
    context = multiprocessing.get_context(method)
    begin = time.perf_counter()
    with context.Pool(8) as workers:
        workers.apply(answer, (0,))
        print(f"first_result {(time.perf_counter() - begin) * 1e3:.3f}")


def numbers(pids):
    switches = cpu_us = 0
    for pid in pids:
        for task in glob.glob(f"/proc/{pid}/task/*"):
            with open(task + "/status") as file:
                switches += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
            with open(task + "/schedstat") as file:
                cpu_us += int(file.read().split()[0]) / 1000
    return switches, cpu_us


def be_idle(out):
    workers = multiprocessing.get_context("fork").Pool(8)
    workers.map(answer, range(100))
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    os.write(out, " ".join(map(str, pids)).encode())
    while True:
        signal.pause()


def idle(seconds):
    """Seen from outside: this process has no part in the pool."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        be_idle(write)
    pids = os.read(read, 1000).decode().split()
    time.sleep(1)
    before = numbers(pids)
    time.sleep(int(seconds))
    after = numbers(pids)
    print(f"idle_switches {after[0] - before[0]}\nidle_cpu {after[1] - before[1]:.3f}")
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    {"start": start, "pool": pool, "idle": idle}[sys.argv[1]](*sys.argv[2:])
