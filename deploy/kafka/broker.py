"""A one-node Kafka broker without Docker, for trying things out and for tests; not for production.

It needs Java 17 or newer. The jars come from Maven once, and stay in the user's cache directory.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import IO, Annotated

import typer

HERE = Path(__file__).resolve().parent
SERVER = HERE / "server.properties"
LOGGING = HERE / "log4j2.properties"
POM = HERE / "pom.xml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sluice"
CLUSTER_ID = "c2x1aWNlLWthZmthLW9uZQ"
MIN_JAVA = 17
READY_SECONDS = 60
STOP_SECONDS = 30
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={LOGGING}")


class BrokerError(RuntimeError):
    """The broker cannot be had here, or does not start; the message says why."""


def require_java() -> str:
    """Path of a Java that is new enough. Raises `BrokerError`."""
    java = shutil.which("java")
    if java is None:
        raise BrokerError(f"no java in PATH; Kafka needs Java {MIN_JAVA} or newer")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < MIN_JAVA:
        raise BrokerError(f"{java} is Java {found[1] if found else '?'}; Kafka needs {MIN_JAVA} or newer")
    return java


def fetch_jars() -> Path:
    """The folder of Kafka's jars; Maven fetches them where they are not there yet. Raises `BrokerError`."""
    # Named by its contents: another version in the pom is another folder.
    jars = CACHE / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(f"no mvn in PATH, and no jars in {jars}; Maven fetches them once (44 MB)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="kafka-") as work:
        fetched = Path(work) / "jars"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        done = subprocess.run(
            [maven, "-q", "-B", "-f", str(POM), *goal], capture_output=True, text=True, check=False
        )
        if done.returncode:
            problem = next((line for line in done.stdout.splitlines() if "ERROR" in line), "no reason given")
            raise BrokerError(f"mvn could not fetch Kafka's jars: {problem}")
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():  # else another process was faster, with the same jars
                raise
    return jars


def free_port() -> int:
    """A free port of this machine, outside the range from which clients get theirs: while the broker is
    down, nobody but its next start takes it.
    """
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _serves(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """One broker on 127.0.0.1. What it holds is in `folder`, and outlives a stop and a kill."""

    def __init__(self, folder: Path, port: int | None = None, more: Mapping[str, str] | None = None) -> None:
        """`more`: settings of the server that are added, or replace those of server.properties."""
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.log = self.folder / "server.log"
        self._properties = self.folder / "server.properties"
        self._more = more or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """For `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """True from `start` until `stop`, `kill`, or a death of its own."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, guarded: bool = True) -> int:
        """Start, again or for the first time, and wait until it serves; nothing where it runs already.
        Returns the id of the process. A guarded broker ends with the process that started it, however that
        ends. Raises `BrokerError`.
        """
        if self._process is not None and self._process.poll() is None:
            return self._process.pid
        self._end_guard()
        if _serves(self.port):
            raise BrokerError(f"another program has port {self.port}")
        java = [require_java(), *JVM, "-cp", f"{fetch_jars()}/*"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._format(java, log)
            # A session of its own: Ctrl-C is for whoever started it, and stops it in good order.
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if guarded:
            # Its input ends when the process that holds the other end is gone, killed or not.
            self._guard = subprocess.Popen(
                ["sh", "-c", 'cat; kill -9 "$0"', str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self._process.pid

    def stop(self) -> None:
        """Stop in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill at once, as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._end_guard()

    def _end_guard(self) -> None:
        """Always after the broker: the guard must not outlive it, its process id may be given anew."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None

    def _format(self, java: list[str], log: IO[bytes]) -> None:
        """Write the settings, and prepare the folder of data the first time."""
        data = self.folder / "data"
        known = (
            re.search(r"@127\.0\.0\.1:(\d+)", self._properties.read_text())
            if self._properties.is_file()
            else None
        )
        places = {
            "port": self.port,
            "controller_port": known[1] if known else free_port(),
            "data": data,
        }
        more = "".join(f"{key}={value}\n" for key, value in self._more.items())
        self._properties.write_text(Template(SERVER.read_text()).substitute(places) + more)
        if (data / "meta.properties").is_file():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._properties)]
        if subprocess.run([*java, *tool], stdout=log, stderr=log, check=False).returncode:
            raise BrokerError(f"Kafka could not prepare {data}; see {self.log}")

    def _wait_until_ready(self) -> None:
        """It takes connections only once it serves."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if not self.running:
                raise BrokerError(f"Kafka ended at once; see {self.log}")
            if _serves(self.port):
                return
            time.sleep(0.05)
        raise BrokerError(f"Kafka is not ready after {READY_SECONDS} s; see {self.log}")


# --- command line

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0]
)
FolderOption = Annotated[Path, typer.Option("--dir", help="where its data and its log are kept")]


def _pid_file(folder: Path) -> Path:
    return folder / "pid"


def _running_pid(folder: Path) -> int | None:
    """Process id of the broker of a folder. Another process that got its number later is not it."""
    try:
        pid = int(_pid_file(folder).read_text())
    except FileNotFoundError:
        return None
    command = subprocess.run(
        ["ps", "-ww", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False
    )
    return pid if str(folder / "server.properties") in command.stdout else None


@app.command()
def start(
    folder: FolderOption = CACHE / "broker", port: Annotated[int, typer.Option(min=1, max=65_535)] = 9092
) -> None:
    """Start a broker in the background."""
    folder = folder.resolve()
    if _running_pid(folder):
        print(f"a broker runs on {folder} already")
        raise typer.Exit(1)
    broker = Broker(folder, port)
    try:
        pid = broker.start(guarded=False)
    except BrokerError as problem:
        print(problem)
        raise typer.Exit(1) from None
    _pid_file(folder).write_text(str(pid))
    print(f"Kafka serves at {broker.bootstrap}; data and log are in {folder}")


@app.command()
def stop(folder: FolderOption = CACHE / "broker") -> None:
    """Stop it; its data stay."""
    folder = folder.resolve()
    pid = _running_pid(folder)
    if pid is None:
        print(f"no broker runs on {folder}")
        raise typer.Exit(1)
    os.kill(pid, signal.SIGTERM)
    while _running_pid(folder):
        time.sleep(0.1)
    _pid_file(folder).unlink()
    print("stopped")


if __name__ == "__main__":
    app()
