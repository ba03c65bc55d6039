# SPDX-License-Identifier: MIT
"""Locks, semaphores, events, conditions and barriers: see bench/locks.c."""

from bench import Contender, Question

PROCESSES = 2, 8

# What is compared: the contender's name, and the kind that bench/locks.c knows.
LOCKS = [("covey lock", "lock"), ("pthread, process-shared", "pthread"),
         ("pthread, robust", "pthread_robust")]
RLOCKS = [("covey rlock", "rlock"), ("pthread, recursive", "pthread_recursive"),
          ("pthread, robust recursive", "pthread_robust_recursive")]
SEMAPHORES = [("covey semaphore", "semaphore"), ("covey, counting events", "events"),
              ("sem_t", "sem_t")]
READERS = [("covey rwlock", "read"), ("pthread rwlock", "pthread_read")]
WRITERS = [("covey rwlock", "write"), ("pthread rwlock", "pthread_write")]
ROUNDS = [("covey event", "event"), ("covey, counting events", "events"), ("sem_t", "sem_t"),
          ("covey condition", "condition"), ("pthread condition", "pthread_condition"),
          ("a word, spinning", "spin")]
BARRIERS = [("covey barrier", "covey"), ("pthread barrier", "pthread")]

GROUPS = {
    "lock": ("A lock", LOCKS),
    "rlock": ("A recursive lock", RLOCKS),
    "semaphore": ("A semaphore", SEMAPHORES),
    "read": ("A reader/writer lock, reading", READERS),
    "write": ("A reader/writer lock, writing", WRITERS),
}

QUESTIONS = {f"free_{key}": Question(f"{title}, free: acquire and release", "ns")
             for key, (title, _) in GROUPS.items()}
QUESTIONS |= {f"shared_{n}_{key}": Question(f"{title}, wanted by {n} processes", "M/s", "more")
              for key, (title, _) in GROUPS.items() for n in PROCESSES}
QUESTIONS["round"] = Question("A round trip between two processes that run", "us")
QUESTIONS |= {f"meet_{n}": Question(f"A barrier of {n} processes", "us") for n in PROCESSES}

CONTENDERS = []
for key, (_, kinds) in GROUPS.items():
    for name, kind in kinds:
        CONTENDERS.append(Contender(name, ["{build}/locks", f"free_{key}", "free", kind]))
        CONTENDERS += [Contender(name, ["{build}/locks", f"shared_{n}_{key}", "shared", kind, str(n)])
                       for n in PROCESSES]
for name, kind in ROUNDS:
    CONTENDERS.append(Contender(name, ["{build}/locks", "round", "round", kind],
                                limit=kind == "spin"))
for name, kind in BARRIERS:
    CONTENDERS += [Contender(name, ["{build}/locks", f"meet_{n}", "meet", kind, str(n)])
                   for n in PROCESSES]

# What is promised: (question, contender, at most so many times, the median of this contender); where
# more is better, at least so many times.
PROMISES = [
    ("free_lock", "covey lock", 1.2, "pthread, process-shared"),
    ("shared_2_lock", "covey lock", 1.0, "pthread, robust"),
    ("shared_8_lock", "covey lock", 0.7, "pthread, process-shared"),
    ("free_semaphore", "covey semaphore", 1.0, "sem_t"),
    ("shared_2_semaphore", "covey semaphore", 1.0, "sem_t"),
    ("shared_8_semaphore", "covey semaphore", 0.7, "sem_t"),
    ("shared_8_rlock", "covey rlock", 0.7, "pthread, recursive"),
    ("round", "covey event", 3.0, "a word, spinning"),
    ("meet_8", "covey barrier", 1 / 0.7, "pthread barrier"),
]
