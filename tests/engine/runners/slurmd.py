"""A real Slurm of one node: munged, slurmctld and slurmd, in namespaces of their own where only loopback exists.

Its node has another name, boot and process table than the test, as a cluster's nodes have; files are shared.
Nothing under /etc is read or changed, and all of it ends with the first process of its namespace.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "srun", "salloc", "sinfo")
NEEDED = (*PROGRAMS, "unshare", "nsenter", "setpriv", "ip", "mount")
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun", "salloc", "sinfo", "sacct")
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_SECONDS = 30.0
NODE = "node7"
CPUS = 8

CONF = """\
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000,bf_interval=1
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=6817
SlurmdPort=6818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
KillWait=2
InactiveLimit=0
MessageTimeout=2
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes={node} Default=YES MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1
PartitionName=urgent Nodes={node} PriorityTier=2
PartitionName=closed Nodes={node} State=DOWN
"""

# Slurm looks names up, and glibc finds none on a machine that has no address but 127.0.0.1.
INSIDE = """\
set -e
ip link set lo up
ip addr add 127.0.0.2/8 dev lo
hostname {node}
printf '127.0.0.1 localhost {node}\\n' >'{folder}/hosts'
mount --bind '{folder}/hosts' /etc/hosts
mount --bind '{folder}/boot_id' /proc/sys/kernel/random/boot_id
echo up >'{folder}/up'
exec sleep 100000
"""


class Cluster:
    """A cluster under ``folder``. ``bin`` is a directory to put on PATH: its commands, reached in its namespaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self._keeper: subprocess.Popen[bytes] | None = None
        self._inside = 0  # the first process of the namespaces, as numbered here
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("munge", "state", "spool", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "munge").chmod(0o755)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, node=NODE, cpus=CPUS))

    # --- its life -----------------------------------------------------------------------------------

    def start(self) -> None:
        script = INSIDE.format(folder=self.folder, node=NODE)
        # However the tests end, also by SIGKILL: the namespaces end with them, and all that is inside.
        tied = ["setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--fork"]
        own = ["--net", "--uts", "--mount", "--pid", "--mount-proc"]
        self._keeper = subprocess.Popen(
            [*tied, *own, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "keeper.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._until(lambda: (self.folder / "up").exists(), "namespaces", self._keeper)
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
        self._inside = int(children[0])
        for name in COMMANDS:
            # The commands see the namespaces too: their own sockets are then loopback's as well.
            words = " ".join(self._enter(f"/usr/bin/{name}"))
            (self.bin / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (self.bin / name).chmod(0o755)
        munge = self.folder / "munge"
        places = [f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid"]
        places += [f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
        self._daemon("munged", "-F", "--force", *places)
        self._until((munge / "socket").exists, "munged", self._daemons["munged"])
        self.start_controller("-i")
        self._daemon("slurmd", "-D", "-N", NODE)
        self._until(
            lambda: self.ask("sinfo", "-h", "-o", "%t", "-p", "main") == "idle", "slurmd", self._daemons["slurmd"]
        )
        assert self.listening() and all(address.startswith("127.") for address in self.listening())

    def _enter(self, program: str) -> list[str]:
        return [*self._into, "env", f"SLURM_CONF={self.folder}/slurm.conf", program]

    @property
    def _into(self) -> list[str]:
        return ["nsenter", "-t", str(self._inside), "--net", "--uts", "--mount", "--pid", "--"]

    def _daemon(self, name: str, *words: str) -> None:
        program = shutil.which(name, path=SYSTEM)
        assert program is not None
        self._daemons[name] = subprocess.Popen(
            [*self._enter(program), *words],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / f"{name}.out").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )

    def _until(self, condition: object, what: str, process: subprocess.Popen[bytes]) -> None:
        assert callable(condition)
        end = time.monotonic() + START_SECONDS
        while not condition():
            if process.poll() is not None or time.monotonic() > end:
                said = "".join(path.read_text(errors="replace")[-600:] for path in self.folder.glob("*.out"))
                said += (self.folder / "keeper.log").read_text(errors="replace")[-300:]
                self.stop()
                pytest.skip(f"{what} does not start here (`make test-servers` sets it up, as root): {said}")
            time.sleep(0.02)

    def start_controller(self, *words: str) -> None:
        self._daemon("slurmctld", "-D", *words)
        self._until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld", self._daemons["slurmctld"])

    def save_state(self) -> None:
        """Wait until the controller has written down all that it knows now (it does so now and then)."""
        state, now = self.folder / "state" / "job_state", time.time()
        end = time.monotonic() + START_SECONDS
        self.ask("scontrol", "reconfigure")
        while not (state.exists() and state.stat().st_mtime > now):
            assert time.monotonic() < end, "the controller saves nothing"
            time.sleep(0.05)

    def kill_controller(self) -> None:
        """As a crash does: by SIGKILL, to the pid in its own namespace."""
        daemon = self._daemons.pop("slurmctld")
        assert daemon.poll() is None
        (child,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert Path(f"/proc/{child}/comm").read_text().strip() == "slurmctld"
        os.kill(int(child), signal.SIGKILL)
        daemon.wait()

    def stop(self) -> None:
        """Everything in the namespaces ends with their first process, jobs too."""
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
            self._keeper = None
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()
        # A job that Slurm kills leaves its short name for a temporary directory on its node, which is here.
        for alias in Path("/tmp").glob("ratchet.*/t"):
            if alias.is_symlink() and alias.readlink().is_relative_to(self.folder.parent):
                alias.unlink()
                alias.parent.rmdir()

    # --- looking and asking -------------------------------------------------------------------------

    def ask(self, name: str, *words: str) -> str:
        done = subprocess.run([self.bin / name, *words], capture_output=True, text=True, check=False, cwd="/")
        return done.stdout.strip()

    def listening(self) -> set[str]:
        """Addresses on which anything in the cluster accepts TCP connections."""
        found = set()
        for table in ("tcp", "tcp6"):
            try:
                lines = Path(f"/proc/{self._inside}/net/{table}").read_text().splitlines()[1:]
            except FileNotFoundError:
                continue
            for line in lines:
                fields = line.split()
                if fields[3] == "0A":
                    address = fields[1].partition(":")[0]
                    found.add(socket.inet_ntoa(bytes.fromhex(address)[::-1]) if table == "tcp" else address)
        return found

    def kill_there(self, pid: int, what: str) -> None:
        """SIGKILL to a process by its number on the node, once it is seen to be ``what``."""
        script = f"grep -aq {what} /proc/{pid}/cmdline && kill -KILL {pid}"
        subprocess.run([*self._enter("sh"), "-c", script], check=True, cwd="/")

    def processes(self, words: str, name: str) -> list[int]:
        """Numbers on the node of the processes called ``name`` whose command line holds ``words``."""
        script = f'for f in $(grep -alsF -e {words} /proc/[0-9]*/cmdline); do echo "${{f%/*}} $(cat "${{f%/*}}/comm")"; done'
        done = subprocess.run(
            [*self._enter("sh"), "-c", script], capture_output=True, text=True, check=True, cwd="/"
        )
        found = (line.split() for line in done.stdout.splitlines())
        return [int(words[0].rpartition("/")[2]) for words in found if words[1:] == [name]]

    def jobs(self) -> dict[str, str]:
        """States by job, of all that the controller remembers."""
        lines = self.ask("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def names(self) -> list[str]:
        """Names of all jobs ever submitted that it remembers."""
        return sorted(self.ask("squeue", "-h", "-t", "all", "-o", "%j").split())

    @contextmanager
    def hidden(self, folder: Path) -> Iterator[None]:
        """The node has something else at that place."""
        into = ["nsenter", "-t", str(self._inside), "--mount", "--"]
        subprocess.run([*into, "mount", "-t", "tmpfs", "none", folder], check=True, cwd="/")
        try:
            yield
        finally:
            subprocess.run([*into, "umount", folder], check=True, cwd="/")

    def by_conf(self, folder: Path) -> Path:
        """A directory for PATH as at a site whose commands find their cluster by SLURM_CONF alone."""
        folder.mkdir()
        for name in COMMANDS:
            (folder / name).write_text(f'#!/bin/sh\nexec {" ".join(self._into)} /usr/bin/{name} "$@"\n')
            (folder / name).chmod(0o755)
        return folder

    def shim(self, folder: Path, scripts: Mapping[str, str]) -> Path:
        """A directory for PATH with the commands, some of them replaced; ``$REAL`` is the real one there."""
        folder.mkdir()
        for name in COMMANDS:
            script = scripts.get(name)
            text = (
                f"#!/bin/sh\nREAL={self.bin / name}\n{script}\n"
                if script
                else f'#!/bin/sh\nexec {self.bin / name} "$@"\n'
            )
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return folder


def serve(folder: Path) -> Iterator[Cluster]:
    """A started cluster; skips with the reason where there can be none."""
    missing = [name for name in NEEDED if shutil.which(name, path=SYSTEM) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: `make test-servers` installs them")
    if os.geteuid() != 0:
        pytest.skip("a Slurm of our own needs root: run `make test-servers` and the tests as root")
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
