"""What every process of ours does when it is asked to end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAITS_FOR_EVER = """
import threading, time
from flows.process import stop_on_signal
stop = threading.Event()
with stop_on_signal(stop):
    print("ready", flush=True)
    stop.wait()
    print("asked to stop", flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_cannot_stop(number: signal.Signals) -> None:
    command = [sys.executable, "-c", WAITS_FOR_EVER]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked to stop\n"
        process.send_signal(number)
        assert process.wait(30) == -number
