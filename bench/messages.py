# SPDX-License-Identifier: MIT
"""Messages between processes: see bench/messages.c. Rivals that are not installed are left out."""

import os
import pathlib
import sys

from bench import BEST, Contender, Question

# A contender: what its program is called, and its channel there.
QUEUE = {"covey": ("covey", "queue")}
BLOCKS = {"covey": ("covey", "block")}
PIPE = {"pipe": ("kernel", "pipe")}
SOCKET = {"Unix socket": ("kernel", "socket")}
MQ = {"POSIX mq": ("kernel", "mq")}
FUTEX = {"futex": ("kernel", "futex"), "futex_waitv of 3 words": ("kernel", "waitv")}
COPIES = {"two copies": ("ring", "copies")}
RING = {"bare ring": ("ring", "ring")}
BOOST = {"Boost message_queue": ("boost", "boost")}
ZEROMQ = {"ZeroMQ ipc": ("zeromq", "zeromq")}
NNG = {"nng ipc": ("nng", "nng")}
OPENMPI = {"Open MPI": ("openmpi", "mpi")}
MPICH = {"MPICH": ("mpich", "mpi")}
LIMITS = {*RING, *FUTEX, *COPIES, "bare ring, 100 at once"}

MPI = {"openmpi": ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "-n"],
       "mpich": ["mpirun.mpich", "-n"]}

SMALL = QUEUE | RING | PIPE | SOCKET | MQ | BOOST | ZEROMQ | NNG | OPENMPI | MPICH
LARGE = QUEUE | RING | PIPE | SOCKET | BOOST | ZEROMQ | NNG | OPENMPI | MPICH
MANY_TO_MANY = QUEUE | PIPE | SOCKET | MQ | BOOST | ZEROMQ | NNG | OPENMPI | MPICH
HUGE = QUEUE | PIPE | SOCKET | ZEROMQ | NNG | OPENMPI | MPICH

UNITS = [(1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]


def size_name(size):
    return next(f"{size // unit} {name}" for unit, name in UNITS if size >= unit)


# (size, producers, consumers, who); a queue is asked for batches where it says so.
STREAMS = [
    (8, 1, 1, SMALL), (64, 1, 1, SMALL), (1 << 10, 1, 1, SMALL), (64 << 10, 1, 1, LARGE),
    (1 << 20, 1, 1, HUGE), (64 << 20, 1, 1, HUGE),
    (8, 2, 2, MANY_TO_MANY), (64, 2, 2, MANY_TO_MANY), (64, 4, 4, MANY_TO_MANY),
    (64, 16, 16, QUEUE | PIPE | SOCKET),
]
MANY = 100
BATCHES = [(8, 1, 1), (64, 1, 1), (64, 2, 2)]
COPIED = [1 << 20, 64 << 20]
REFERENCES = [64, 64 << 10, 1 << 20, 64 << 20]
ROUNDS = [
    ("round", "both of which run", 8, SMALL),
    ("round", "both of which run", 1 << 10, SMALL),
    ("round", "both of which run", 64 << 10, LARGE),
    ("asleep", "both of which sleep", 8, QUEUE | FUTEX | PIPE | SOCKET | MQ | BOOST | ZEROMQ | NNG),
    ("one_cpu", "on one CPU", 8, SMALL | FUTEX),
]

QUESTIONS = {}
CONTENDERS = []
PROMISES = []


def is_there(program):
    programs = pathlib.Path(sys.argv[sys.argv.index("--programs") + 1])
    return (programs / f"messages_{program}").exists()


def ask(key, who, processes, arguments):
    for name, (program, channel) in who.items():
        if is_there(program):
            command = ["{build}/messages_" + program, channel, key, *map(str, arguments)]
            launch = MPI[program] + [str(processes)] if program in MPI else []
            CONTENDERS.append(Contender(name, launch + command, limit=name in LIMITS))


for size, producers, consumers, who in STREAMS:
    key = f"stream_{size}_{producers}x{consumers}"
    crowd = f"{producers} x {consumers}"
    QUESTIONS[key] = Question(f"Messages of {size_name(size)}, {crowd}", "thousand/s", "more")
    ask(key, who, producers + consumers, ["stream", size, producers, consumers, 1])
for size, producers, consumers in BATCHES:
    key = f"stream_{size}_{producers}x{consumers}"
    many = ["stream", size, producers, consumers, MANY]
    ask(key, {f"covey, {MANY} at once": QUEUE["covey"]}, 0, many)
    if producers == 1:
        ask(key, {f"bare ring, {MANY} at once": RING["bare ring"]}, 0, many)
for size in COPIED:
    ask(f"stream_{size}_1x1", COPIES, 0, ["stream", size, 1, 1, 1])
for size in REFERENCES:
    key = f"reference_{size}"
    QUESTIONS[key] = Question(f"A block of {size_name(size)} given away, and given back", "us", target=1)
    ask(key, BLOCKS, 0, ["each", size, 1, 1])
for how, crowd, size, who in ROUNDS:
    key = f"{how}_{size}"
    title = f"A round trip of {size_name(size)} between two processes, {crowd}"
    QUESTIONS[key] = Question(f"{title}: median", "us")
    QUESTIONS[f"{key}_p99"] = Question(f"{title}: 99 % take no longer", "us")
    ask(key, who, 2, [how, size] + ([min(os.sched_getaffinity(0))] if how == "one_cpu" else []))

MANY_AT_ONCE = f"covey, {MANY} at once"

# As in bench/locks.py; BEST is the best of all that is neither covey nor a limit.
PROMISES = [
    ("stream_8_1x1", "covey", 2, BEST),
    ("stream_64_1x1", "covey", 2, BEST),
    ("stream_8_1x1", MANY_AT_ONCE, 5, BEST),
    ("stream_64_1x1", MANY_AT_ONCE, 5, BEST),
    ("stream_8_2x2", "covey", 2, BEST),
    ("stream_64_2x2", "covey", 2, BEST),
    ("stream_64_4x4", "covey", 2, BEST),
    (f"stream_{1 << 20}_1x1", "covey", 0.9, "two copies"),
    ("stream_64_16x16", "covey", 1, "pipe"),
    ("round_8", "covey", 1, "MPICH"),
    ("round_8", "covey", 1, "Open MPI"),
    ("round_8", "covey", 2, "bare ring"),
    ("asleep_8", "covey", 1.1, "futex"),
    ("one_cpu_8", "covey", 1, "pipe"),
]
