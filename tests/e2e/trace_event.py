#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trace_event.py FILE: is it the trace-event format as viewers read it?

Events are taken as they take them: sorted by time, those of one time in the order of
the file. Prints what is wrong; otherwise a line with the numbers of events, spans,
arrows, processes and threads.
"""
import json
import sys
from collections import Counter, defaultdict

NUMBER = (int, float)
problems = []


def complain(event, why):
    problems.append(f"{why}: {json.dumps(event)[:300]}")


def check_shape(e):
    """Whether the fields that its phase needs are there."""
    ok = True
    if e.get("ph") not in ("B", "E", "X", "i", "s", "t", "f", "M"):
        complain(e, "unknown phase")
        return False
    for key in ("pid", "tid"):
        if not isinstance(e.get(key), int) or isinstance(e[key], bool):
            complain(e, f"{key} is no number")
            ok = False
    if e["ph"] != "E" and not isinstance(e.get("name"), str):
        complain(e, "no name")
        ok = False
    if e["ph"] != "M" and (not isinstance(e.get("ts"), NUMBER) or e["ts"] < 0):
        complain(e, "no time")
        ok = False
    if e["ph"] == "X" and not (isinstance(e.get("dur"), NUMBER) and e["dur"] > 0):
        complain(e, "no duration")
        ok = False
    if e["ph"] in "stf" and not isinstance(e.get("id"), (int, str)):
        complain(e, "an arrow without id")
        ok = False
    if e["ph"] == "i" and e.get("s") not in ("g", "p", "t"):
        complain(e, "an instant without scope")
        ok = False
    if not isinstance(e.get("args", {}), dict):
        complain(e, "args is no object")
        ok = False
    return ok


def ns(us):
    return round(us * 1000)


def check_nesting(events):
    """Spans of a thread nest, and arrows touch one. Gives the arrows' ends by id."""
    stack, flows = defaultdict(list), defaultdict(list)
    for e in sorted((e for e in events if e["ph"] in "BEXstf"), key=lambda e: ns(e["ts"])):
        spans, now = stack[e["pid"], e["tid"]], ns(e["ts"])
        while spans and spans[-1][1] is not None and spans[-1][1] <= now:
            spans.pop()
        if e["ph"] == "B":
            if spans and spans[-1][1] is not None:
                complain(e, "begins within an event")
            spans.append((e, None))
        elif e["ph"] == "E":
            if not spans or spans[-1][1] is not None:
                complain(e, "ends nothing")
            else:
                spans.pop()
        elif e["ph"] == "X":
            if spans and spans[-1][1] is not None:
                complain(e, "overlaps another")
            spans.append((e, now + ns(e["dur"])))
        else:
            flows[e["id"]].append((e, spans[-1][0] if spans else None))
    for spans in stack.values():
        for e, end in spans:
            if end is None:
                complain(e, "never ends")
    return flows


def check_flows(flows):
    for ends in flows.values():
        phases = [e["ph"] for e, _ in ends]
        if phases not in (["s", "f"], ["s", "t", "f"]):
            complain(ends[0][0], f"an arrow of {phases}")
            continue
        for (e, touched), wanted in zip(ends, ["schedule"] + ["notify"] * (len(ends) - 2) + [None]):
            if touched is None:
                complain(e, "an arrow's end touches nothing")
            elif wanted and not touched["name"].startswith(wanted):
                complain(e, f"touches {touched['name']}, not a {wanted}")
            elif not wanted and (touched["ph"] != "B" or "callback" not in touched["args"] or e.get("bp") != "e"):
                complain(e, f"touches {touched['name']}, no execution")


def check_names(events):
    """Processes and threads are named, and each once."""
    named = Counter((e["name"], e["pid"], e["tid"] if e["name"].startswith("thread") else 0)
                    for e in events if e["ph"] == "M")
    for key, n in named.items():
        if n > 1:
            problems.append(f"named {n} times: {key}")
    threads = {(e["pid"], e["tid"]) for e in events if e["ph"] in "BEXstf"}
    for pid, tid in threads:
        if not named["process_name", pid, 0] or not named["thread_name", pid, tid]:
            problems.append(f"process {pid} or thread {tid} has no name")
    return threads


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    events = document["traceEvents"]
    if not all([check_shape(e) for e in events]):
        print(*problems[:20], sep="\n")
        return 1
    flows = check_nesting(events)
    check_flows(flows)
    threads = check_names(events)
    if problems:
        print(f"{len(problems)} problems", *problems[:20], sep="\n")
        return 1
    spans = sum(e["ph"] in "BX" for e in events)
    print(f"events={len(events)} spans={spans} arrows={len(flows)} processes={len({p for p, _ in threads})}"
          f" threads={len(threads)}")
    return 0


sys.exit(main())
