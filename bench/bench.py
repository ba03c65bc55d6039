# SPDX-License-Identifier: MIT
"""
Runs benchmarks, and shows what they say.

A benchmark NAME is a module bench/NAME.py with QUESTIONS, CONTENDERS and perhaps PROMISES. A
contender is a command that prints lines "QUESTION VALUE". The commands of all contenders take
turns, in rounds, so that what disturbs the machine disturbs all of them; what counts is the median
of the rounds, shown with the lowest and the highest, and the ratio to others of the same run.
"""

import argparse
import collections
import dataclasses
import datetime
import importlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent
OUT = SOURCE.parent / "build" / "bench"
ROUNDS = 11
BEST = "the best rival"


@dataclasses.dataclass
class Question:
    title: str
    unit: str
    better: str = "less"
    target: float = None  # what is promised: shown as a bound


@dataclasses.dataclass
class Contender:
    name: str
    command: list
    limit: bool = False  # a bound, and no rival: it does less than what is compared
    rounds: int = ROUNDS


def machine():
    model = platform.machine()
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{len(os.sched_getaffinity(0))} x {model}, {platform.system()} {platform.release()}"


def commit():
    git = ["git", "-C", str(SOURCE)]
    head = subprocess.run(git + ["rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(git + ["status", "--porcelain"], capture_output=True, text=True)
    if head.returncode != 0:
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def ask(contender, programs, samples):
    command = [part.format(build=programs, source=SOURCE) for part in contender.command]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if run.returncode != 0:
        sys.exit(f"script/bench: {' '.join(command)} ended with {run.returncode}")
    for line in run.stdout.splitlines():
        question, value = line.split()
        samples[question, contender.name].append(float(value))


def rows_of(module, samples):
    limits = {contender.name for contender in module.CONTENDERS if contender.limit}
    rows = []
    for key, question in module.QUESTIONS.items():
        common = {"question": question.title, "unit": question.unit, "better": question.better}
        for (asked, name), values in samples.items():
            if asked == key:
                row = common | {"contender": name, "median": statistics.median(values),
                                "low": min(values), "high": max(values), "runs": len(values)}
                rows.append(row | ({"limit": True} if name in limits else {}))
        if question.target is not None:
            rows.append(common | {"contender": "promised", "median": question.target,
                                  "low": question.target, "high": question.target, "runs": 0,
                                  "limit": True})
    return rows


def show(rows):
    previous = None
    for row in rows:
        if row["question"] != previous:
            previous = row["question"]
            ours = next((r for r in rows if r["question"] == previous and
                         r["contender"].startswith("covey")), row)
            print(f"\n{previous} ({row['unit']}, {row['better']} is better)")
        ratio = f"{row['median'] / ours['median']:8.2f}" if ours["median"] else "       -"
        print(f"  {row['contender']:<24}{row['median']:14.5g}  "
              f"{row['low']:10.5g} - {row['high']:<10.5g}{ratio} x {ours['contender']}")


def check(module, rows):
    """Says which promises hold in this run."""
    medians = {(row["question"], row["contender"]): row["median"] for row in rows}
    rivals = [row for row in rows
              if not row.get("limit") and not row["contender"].startswith("covey")]
    print()
    for key, name, times, other in getattr(module, "PROMISES", []):
        title = module.QUESTIONS[key].title
        if other == BEST:
            of_best = max if module.QUESTIONS[key].better == "more" else min
            other = of_best((row["median"], row["contender"]) for row in rivals
                            if row["question"] == title)[1]
        if (title, other) not in medians:
            continue
        ratio = medians[title, name] / medians[title, other]
        more = module.QUESTIONS[key].better == "more"
        met = ratio >= times if more else ratio <= times
        print(f"{'met   ' if met else 'MISSED'} {title}: {name} is {ratio:.2f} times "
              f"{other}, at {'least' if more else 'most'} {times:.3g}")
    for row in rows:
        if row["contender"] == "promised":
            for other in rows:
                if other["question"] == row["question"] and other["contender"] == "covey":
                    met = other["median"] <= row["median"] if row["better"] == "less" else \
                        other["median"] >= row["median"]
                    print(f"{'met   ' if met else 'MISSED'} {row['question']}: "
                          f"{other['median']:g} {row['unit']}, promised {row['median']:g}")


def draw(name, rows):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    questions = list(dict.fromkeys(row["question"] for row in rows))
    heights = [sum(row["question"] == question for row in rows) for question in questions]
    figure, axes = pyplot.subplots(len(questions), 1, squeeze=False, layout="constrained",
                                   figsize=(9, 0.3 * sum(heights) + 0.9 * len(questions)),
                                   height_ratios=[h + 1 for h in heights])
    for question, axis in zip(questions, axes[:, 0]):
        bars = [row for row in rows if row["question"] == question][::-1]
        medians = [row["median"] for row in bars]
        colours = ["#bbbbbb" if row.get("limit") else
                   "#1f6f8b" if row["contender"].startswith("covey") else "#d98e04" for row in bars]
        axis.barh([row["contender"] for row in bars], medians, color=colours, xerr=[
            [row["median"] - row["low"] for row in bars],
            [row["high"] - row["median"] for row in bars]], error_kw={"elinewidth": 0.8})
        if min(medians) > 0 and max(medians) > 30 * min(medians):
            axis.set_xscale("log")
        else:
            axis.set_xlim(left=0, right=None if any(medians) else 1)
        axis.set_title(f"{question} ({bars[0]['unit']}, {bars[0]['better']} is better)",
                       fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
    figure.savefig(OUT / f"{name}.svg")
    pyplot.close(figure)


def run(name, programs, rounds):
    module = importlib.import_module(name)
    samples = collections.defaultdict(list)
    most = rounds or max(contender.rounds for contender in module.CONTENDERS)
    for turn in range(most):
        for contender in module.CONTENDERS:
            if turn < min(contender.rounds, most):
                ask(contender, programs, samples)
        print(f"\r{name}: round {turn + 1} of {most}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = rows_of(module, samples)
    show(rows)
    check(module, rows)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps({
        "machine": machine(), "date": datetime.date.today().isoformat(), "commit": commit(),
        "rows": rows}, indent=1) + "\n")
    draw(name, rows)
    print(f"\nwrote {OUT.relative_to(SOURCE.parent)}/{name}.json and {name}.svg")


def main():
    names = sorted(path.stem for path in SOURCE.glob("*.py")
                   if (SOURCE / f"{path.stem}.c").exists())
    parser = argparse.ArgumentParser(prog="script/bench", description="Measures covey.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="fewer or more than the usual number")
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in names:
            parser.error(f"there is no benchmark {name}; there are: {', '.join(names)}")
    for name in arguments.names or names:
        run(name, arguments.programs, arguments.rounds)


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    sys.modules["bench"] = sys.modules["__main__"]
    main()
