"""`tug logs`: a machine's log is bounded while the machine runs, and followed from file to file."""

import pathlib
import subprocess

from wait import until

# What a log may grow to before another file takes its name, and what is written to it at once beyond that.
MOST, LITTLE = 16 << 20, 1 << 20
# Nine megabytes, so many times.
LINES, TIMES = 250_000, 6


def lines(text):
    """The first and the last of the lines that the test had printed, and after which ones another is missing."""
    numbers = [int(line[5:]) for line in text.splitlines() if line.startswith("line 0")]
    return numbers[0], numbers[-1], [one for one, next in zip(numbers, numbers[1:]) if next != one + 1]


def test_it_is_bounded_and_followed(new_cluster, tmp_path):
    cluster = new_cluster("log")
    cluster.start()
    with open(tmp_path / "followed", "wb") as followed:
        follower = subprocess.Popen(cluster.command("logs", "-f"), stdout=followed, env=cluster.env)
    try:
        fill(cluster, tmp_path / "followed")
        cluster.delete()
        assert follower.wait(timeout=60) == 0
    finally:
        follower.kill()
        follower.wait()


def fill(cluster, followed):
    """Three files' worth, printed by the server itself as far as anybody can tell."""
    state = pathlib.Path("/var/lib/tug/machines") / cluster.name
    server = cluster.server_pid()
    last = lambda: subprocess.check_output(["tail", "-n1", followed], text=True)
    for end in range(LINES, LINES * TIMES + 1, LINES):
        cluster.ssh(f"seq -f 'line %031.0f' {end - LINES + 1} {end} >> /proc/$(pgrep --exact tug-server)/fd/2")
        # Whoever lags behind by more than two files has lost what the log has lost.
        until(lambda: last() == f"line {end:031}\n", "the follower has seen all", timeout=120)  # noqa: B023
        sizes = {path.name: path.stat().st_size for path in state.glob("machine.log*")}
        assert sizes.keys() <= {"machine.log", "machine.log.1"} and max(sizes.values()) < MOST + LITTLE, sizes
    assert lines(followed.read_text()) == (1, LINES * TIMES, [])
    printed = cluster.tug("logs")
    assert lines(printed)[1:] == (LINES * TIMES, [])
    assert MOST < len(printed) < 2 * (MOST + LITTLE)
    # The server went on, and another one is heard as well.
    assert cluster.server_pid() == server
    cluster.tug("stop")
    cluster.start()
    until(lambda: "ready" in last(), "the follower hears of the start")


def test_nobody_waits_for_ever(new_cluster):
    """Not those who print without end, when the machine is told to stop, nor whoever has it stop."""
    cluster = new_cluster("flood")
    cluster.start()
    cluster.ssh("setsid yes >> /proc/$(pgrep --exact tug-server)/fd/2 2>/dev/null </dev/null &")
    until(lambda: "y\ny\n" in cluster.tug("logs")[-1000:], "the flood has begun")
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
    cluster.tug("stop")
    cluster.delete()
