# SPDX-License-Identifier: MIT
"""Processes, an empty family and an idle pool: see bench/process.c."""

from bench import Contender, Question

QUESTIONS = {
    "start_10": Question("Start and join a process, from a parent of 10 MiB", "us"),
    "start_10_busy": Question("The same, beside 4 busy processes", "us"),
    "start_500": Question("Start and join a process, from a parent of 500 MiB", "us"),
    "first_result": Question("Open a pool of 8, to its first result", "ms"),
    "open": Question("Open an empty family", "us", target=200),
    "resident": Question("Resident memory of an empty family", "KiB", target=1024),
    "idle_switches": Question("A pool of 8, idle for 10 s: context switches", "switches", target=0),
    "idle_cpu": Question("A pool of 8, idle for 10 s: time on a CPU", "us", target=0),
}

PYTHON = ["/usr/bin/python3", "{source}/process_python.py"]
COVEY = ["{build}/process"]
SIZES = ["10"], ["10", "4"], ["500"]

CONTENDERS = [
    *(Contender(name, COVEY + ["start", how, *size], limit=how.startswith("bare"))
      for name, how in [("fork + waitpid", "bare-fork"), ("covey, fork", "fork"),
                        ("covey, forkserver", "forkserver"), ("posix_spawn + waitpid", "bare-spawn"),
                        ("covey, spawn", "spawn")]
      for size in SIZES),
    *(Contender("Python, " + method, PYTHON + ["start", method, *size])
      for method in ["fork", "forkserver", "spawn"] for size in SIZES),
    *(Contender("covey, " + method, COVEY + ["pool", method])
      for method in ["fork", "forkserver", "spawn"]),
    *(Contender("Python, " + method, PYTHON + ["pool", method])
      for method in ["fork", "forkserver", "spawn"]),
    Contender("covey", COVEY + ["family"]),
    Contender("covey", COVEY + ["idle", "10"], rounds=3),
    Contender("Python", PYTHON + ["idle", "10"], rounds=3),
]

# What is promised: (question, contender, at most so many times, the median of this contender).
PROMISES = [
    ("start_10", "covey, fork", 1.2, "fork + waitpid"),
    ("start_500", "covey, fork", 1.2, "fork + waitpid"),
    ("start_500", "covey, forkserver", 0.5, "covey, fork"),
]
