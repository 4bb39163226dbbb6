"""`ratchet hosts` at 80 columns: fleets, many devices, hosts in trouble, hostile words."""

from __future__ import annotations

from typing import Any

from console.formats import width_of
from console.hosts_listing import listing

NOW = 1_750_000_000.0
KIND = "NVIDIA H200 x 1, driver 570.86.15, 1 of 2 sharing"


def host(name: str, devices: int = 0, **more: Any) -> dict[str, Any]:
    uuids = [f"GPU-{name}-{n:04d}-aaaa-bbbb-cccccccccccc" for n in range(devices)]
    readings = [
        {"device": uuid, "at": NOW - 1, "utilisation": 80.0 + n, "memory_used_mb": 70_000.0,
         "memory_total_mb": 143_771.0, "power_w": 600.0 + n, "temperature_c": 60.0 + n, "clock_mhz": 1755.0,
         "throttle": [], "foreign": 0, "trouble": ""}
        for n, uuid in enumerate(uuids)
    ]  # fmt: skip
    return {
        "name": name, "sort": "ssh", "state": "ready", "reason": "", "mend": "", "kinds": {KIND: 2 * devices},
        "devices": [{"uuid": uuid, "index": n, "name": "NVIDIA H200"} for n, uuid in enumerate(uuids)],
        "capacity": 2 * devices, "running": devices, "waiting": [], "ended": 1234, "busy_seconds": 98765.0,
        "dollars": 1234.5, "usd_per_hour": 2.5, "drained_by": "", "lent": {}, "readings": readings,
    } | more  # fmt: skip


def shown(*hosts: dict[str, Any], width: int = 80) -> list[str]:
    lines = listing(hosts, NOW, width)
    print("\n".join(lines))
    assert all(width_of(line) <= width for line in lines), "no line is wider than the terminal"
    return lines


def test_twelve_hosts_of_eight_devices_are_three_lines_each_at_eighty_columns() -> None:
    lines = shown(*(host(f"box{n}", 8) for n in range(12)))
    assert len(lines) == 1 + 12 * 3
    assert [line.split()[0] for line in lines[1::3]] == [f"box{n}" for n in range(12)]
    starts = {tuple(line.index(word) for word in ("ssh", "ready", "/16", "1234", "$")) for line in lines[1:10:3]}
    assert len(starts) == 1, "the columns stand below each other"
    assert "8 devices: 84 % busy (80 to 87), 547/1123 GB, 4.8 kW, up to 67 C" in lines[3]


def test_of_sixteen_devices_only_the_odd_ones_get_a_line() -> None:
    one = host("big", 17)
    one["readings"][9] |= {"foreign": 2}
    one["readings"][12] |= {"throttle": ["thermal"]}
    one["lent"] = {one["devices"][3]["uuid"]: NOW + 3599}
    text = " ".join(line.strip() for line in shown(one))
    assert "1 with processes not ours, 1 held down" in text and "gpu9: " in text and "2 processes not ours" in text
    assert "gpu12: " in text and "gpu4: " not in text and "gpu3 lent for another 59m59s, until " in text
    silent = host("silent", 17)
    for reading in silent["readings"]:
        reading["at"] = NOW - 600
    assert len(shown(silent)) <= 5 and "17 silent" in " ".join(shown(silent))
    few = host("few", 9)
    assert sum(line.startswith("  gpu") for line in shown(few)) == 9, "so few get a line each"


def test_a_host_in_trouble_says_what_is_wrong_before_what_it_has_and_its_mend_is_never_cut() -> None:
    why = "box: ssh: connect to host box.example.org port 22: Connection timed out, since the last reboot of it"
    mend = "see `ssh -o BatchMode=yes box.example.org true`, and whether the host is on"
    lines = shown(host("box", 2, state="away", reason=why, mend=mend, running=0))
    said = " ".join(line.strip() for line in lines)
    assert why in said and f"mend: {mend}" in said
    assert said.index("timed out") < said.index("slots of") and len(lines) < 10
    assert "it is tried again by itself" in " ".join(shown(host("box", state="away", reason="gone")))
    drained = shown(host("a", drained_by="me", state="drained"), host("b", sort="slurm", waiting=["PENDING"] * 3))
    assert "  drained by me; `ratchet hosts resume a` ends that" in drained
    assert "  3 x PENDING" in drained and sum("  0/0  " in line for line in drained) == 2


def test_what_hosts_say_of_themselves_cannot_break_the_listing() -> None:
    for evil in ("\x1b[2Jgone", "a\nb\nc", "x" * 400, "\u202eright to left"):
        odd = host("h", 1, reason=evil, kinds={evil: 1}, drained_by=evil, waiting=[evil])
        odd["readings"][0] |= {"trouble": evil, "utilisation": float("nan"), "power_w": "many", "throttle": evil}
        lines = listing([odd], NOW, 80)
        assert all("\x1b" not in line and "\n" not in line and "\u202e" not in line for line in lines)
    assert listing([], NOW, 80)[0].startswith("HOST")
