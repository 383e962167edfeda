"""What processes cost, as the kernel counts it."""

import os
import pathlib
import time

# Processes at rest are looked at for so long, after they have had so long to come to rest.
REST_SECONDS = 30
SETTLE_SECONDS = 5
TICKS = os.sysconf("SC_CLK_TCK")


def members(init, prefixes):
    """The processes in the pid namespace of `init` whose name begins with one of the prefixes."""
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            own = os.readlink(folder / "ns/pid") == space
            if own and (folder / "comm").read_text().startswith(prefixes):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def texts(pids, name):
    """What the file of that name says of each process that is still there."""
    for pid in pids:
        try:
            yield pathlib.Path(f"/proc/{pid}/{name}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue


def megabytes(pids):
    """Proportional set sizes, summed."""
    lines = (line.split() for text in texts(pids, "smaps_rollup") for line in text.splitlines())
    return sum(int(fields[1]) << 10 for fields in lines if fields[0] == "Pss:") / 1e6


def processor_seconds(pids):
    """In user and kernel mode, until now."""
    fields = (text.rpartition(")")[2].split() for text in texts(pids, "stat"))
    return sum(int(of[11]) + int(of[12]) for of in fields) / TICKS


def percent_at_rest(pids):
    """Of one core."""
    time.sleep(SETTLE_SECONDS)
    before = processor_seconds(pids)
    time.sleep(REST_SECONDS)
    return 100 * (processor_seconds(pids) - before) / REST_SECONDS
