"""Running other programs, waiting for them, saying what goes on."""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time

NAME = pathlib.Path(sys.argv[0]).name

# Ended by a signal it ends what it started: a poll-mode program left behind has a core for ever.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def note(text):
    """Progress, for people: not part of the result."""
    print(text, file=sys.stderr, flush=True)


def fail(text):
    sys.exit(f"{NAME}: {text}")


def run(*command, **options):
    """Standard output of a program; ends this one where that one fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        fail(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def tail(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])


def wait_for(condition, what, log, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            fail(f"{what} did not come within {seconds} s; {log} ends with\n{tail(log)}")
        time.sleep(0.05)


@contextlib.contextmanager
def process(command, log, stop):
    """A program that runs while the context does: its output goes to `log`, the signal `stop` ends it."""
    with open(log, "w") as output:
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT)
    try:
        yield child.pid
    finally:
        child.send_signal(stop)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
