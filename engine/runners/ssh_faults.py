"""What ssh said when it could not reach a host, and what a person can do about it. Pure."""

from __future__ import annotations

import shlex

from engine.errors import HostFault


class ConnectionFault(HostFault):
    """The host was not reached. ``lasting``: trying again by itself will not help; ``crowded``: it is reached,
    and allows no further session just now."""

    def __init__(self, message: str, mend: str = "", *, lasting: bool = False, crowded: bool = False) -> None:
        super().__init__(message, mend)
        self.lasting = lasting
        self.crowded = crowded


# ssh's own words -> what they mean, the mend, and whether it lasts. The first that is found counts.
_KNOWN = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known",
        "find out why: if it was reinstalled, remove the old key (`ssh-keygen -R NAME`) and connect once by hand,"
        " `ssh {host}`; if not, somebody may be in between",
        True,
    ),
    (
        "Host key verification failed",
        "its host key is not known yet",
        "connect once by hand and compare the fingerprint: `ssh {host}`",
        True,
    ),
    (
        "Too many authentication failures",
        "it refused us after too many keys",
        "name the right key: IdentityFile and `IdentitiesOnly yes` for this host in ~/.ssh/config",
        True,
    ),
    (
        "Permission denied",
        "it did not let us in",
        "no password can be asked for here: `ssh -o BatchMode=yes {host} true` must work; load the key"
        " (`ssh-add`), touch or unlock the hardware key, or copy the public key there (`ssh-copy-id {host}`)",
        True,
    ),
    (
        "Could not resolve hostname",
        "there is no such name",
        "check `ssh` of this host in ratchet.toml, ~/.ssh/config and the network's name service",
        False,
    ),
    (
        "onfiguration option",
        "ssh does not understand its configuration",
        "mend the line that it names",
        True,
    ),
    (
        "Bad owner or permissions",
        "ssh refuses its configuration",
        "take away other users' right to write to that file",
        True,
    ),
    (
        "onnection refused",
        "nothing listens there",
        "see that sshd runs there and that the port is right: `ssh -v {host}`",
        False,
    ),
    (
        "imed out",
        "it did not answer in time",
        "see that the machine is up and no firewall is in between: `ssh -v {host}`",
        False,
    ),
    ("imeout, server", "it fell silent", "see that the machine and the network are up", False),
    (
        "No route to host",
        "the network knows no way there",
        "see that the machine, the network or the VPN is up",
        False,
    ),
    ("etwork is unreachable", "the network is down", "see that the network or the VPN is up", False),
    (
        "Session open refused",
        "it allows no more sessions at once",
        "raise MaxSessions in its sshd_config (10 is sshd's own default)",
        False,
    ),
    (
        "onnection closed",
        "it closed the connection",
        "see its sshd's log; MaxStartups and a ban on the address do this too",
        False,
    ),
)


def explain(host: str, stderr: str, stdout: str = "") -> ConnectionFault:
    """The fault behind ssh's complaint; ``stdout``: what the far side printed instead of our shell's greeting."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip(" \t@\r")]
    for said, meaning, mend, lasting in _KNOWN:
        words = next((line for line in lines if said in line), "")
        if words:
            quoted = shlex.quote(host)
            return ConnectionFault(
                f"{host}: {meaning}: {words}",
                mend.replace("{host}", quoted),
                lasting=lasting,
                crowded=said == "Session open refused",
            )
    if stdout.strip():
        last = stdout.strip().splitlines()[-1].strip()[:200]
        return ConnectionFault(
            f"{host}: logged in, but no POSIX shell answered: {last}",
            f"`ssh {shlex.quote(host)} sh -c true` must work without a terminal",
        )
    words = lines[-1] if lines else "the connection broke"
    return ConnectionFault(f"{host}: {words}", f"see what `ssh -v {shlex.quote(host)}` says")
