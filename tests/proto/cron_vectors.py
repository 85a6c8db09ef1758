#!/usr/bin/python3
"""cron_vectors - record what systemd says of calendars, as vectors of proto/cron.

    tests/proto/cron_vectors.py           write cron_vectors.csv anew (needs systemd-analyze)
    tests/proto/cron_vectors.py --check   compare it with the file; exit code 1 when they differ

Each case is a cron expression, the same by hand as systemd calendar expressions (the earliest of
several counts), a zone, and how often to go on from the time found. systemd passes over local times
that do not exist and has no notion of real hours; there our rule, told in proto/cron.h, differs on
purpose: such a time stands in OURS with its reason, worked out by hand.
"""
import pathlib
import re
import subprocess
import sys

BERLIN, YORK, HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
CHATHAM, APIA, KOLKATA = "Pacific/Chatham", "Pacific/Apia", "Asia/Kolkata"

# cron, zone, systemd expressions, after (UTC), how many
CASES = [
    # days without a change, names, lists, ranges, steps
    ("* * * * *", "UTC", ["*-*-* *:*:00"], "2026-11-20 23:58:30", 3),
    ("*/15 * * * *", "UTC", ["*-*-* *:00/15:00"], "2026-12-31 23:31:00", 4),
    ("7,22-24,50 * * * *", "UTC", ["*-*-* *:07,22..24,50:00"],
     "2026-06-30 23:06:59", 6),
    ("10-50/20 8-18/5 * * *", "UTC", ["*-*-* 08..18/5:10..50/20:00"], "2026-06-30 18:11:00", 5),
    ("5 4 * * mon-fri", "UTC", ["Mon..Fri *-*-* 04:05:00"], "2026-06-25 04:05:00", 3),
    ("0 0 * * 7", "UTC", ["Sun *-*-* 00:00:00"], "2026-06-25 04:05:00", 2),
    ("0 0 * * fri-sun", "UTC", ["Fri..Sun *-*-* 00:00:00"], "2026-06-25 04:05:00", 4),
    ("0 0 1 jan,jul *", "UTC", ["*-01,07-01 00:00:00"], "2026-06-25 04:05:00", 3),
    ("@hourly", KOLKATA, ["*-*-* *:00:00"], "2026-06-25 04:05:00", 3),
    ("@daily", KOLKATA, ["*-*-* 00:00:00"], "2026-06-25 04:05:00", 2),
    ("@weekly", KOLKATA, ["Sun *-*-* 00:00:00"], "2026-06-25 04:05:00", 2),
    ("@monthly", KOLKATA, ["*-*-01 00:00:00"], "2026-11-25 04:05:00", 2),
    ("@yearly", KOLKATA, ["*-01-01 00:00:00"], "2026-11-25 04:05:00", 2),
    # both day fields: either matches; one that begins with *: both
    ("0 6 13 * fri", "UTC", ["*-*-13 06:00:00", "Fri *-*-* 06:00:00"], "2026-08-10 00:00:00", 5),
    ("0 6 */2 * mon", "UTC", ["Mon *-*-01/2 06:00:00"], "2026-08-10 00:00:00", 3),
    # 29 February, ends of months
    ("30 5 29 2 *", BERLIN, ["*-02-29 05:30:00"], "2023-03-01 00:00:00", 3),
    ("30 5 29 2 *", "UTC", ["*-02-29 05:30:00"], "2096-03-01 00:00:00", 1),
    ("0 0 29 2 */6", "UTC", ["Sun,Sat *-02-29 00:00:00"], "2004-03-01 00:00:00", 3),
    ("59 23 28-31 * *", YORK, ["*-*-28..31 23:59:00"], "2024-02-28 00:00:00", 5),
    ("0 12 31 * *", BERLIN, ["*-*-31 12:00:00"], "2026-01-31 11:00:00", 4),
    ("0 12 30 2,4 *", BERLIN, ["*-02,04-30 12:00:00"], "2026-01-31 11:00:00", 2),
    # clocks forward
    ("30 2 * * *", BERLIN, ["*-*-* 02:30:00"], "2026-03-27 12:00:00", 3),
    ("*/20 2 * * *", BERLIN, ["*-*-* 02:00/20:00"], "2026-03-28 01:30:00", 3),
    ("0 3 * * *", BERLIN, ["*-*-* 03:00:00"], "2026-03-28 12:00:00", 2),
    ("30 2,3 * * *", BERLIN, ["*-*-* 02,03:30:00"], "2026-03-28 12:00:00", 3),
    ("30 2 29 3 *", BERLIN, ["*-03-29 02:30:00"], "2026-03-01 00:00:00", 2),
    ("30 2 * * sun", YORK, ["Sun *-*-* 02:30:00"], "2026-03-03 00:00:00", 2),
    ("15 2 * * *", HOWE, ["*-*-* 02:15:00"], "2026-10-02 12:00:00", 3),
    ("45 2 * * *", HOWE, ["*-*-* 02:45:00"], "2026-10-02 18:00:00", 2),
    ("0 3 * * *", CHATHAM, ["*-*-* 03:00:00"], "2026-09-25 18:00:00", 2),
    ("0 2,3 * * *", CHATHAM, ["*-*-* 02,03:00:00"], "2026-09-26 12:00:00", 2),
    ("0 9 * * *", APIA, ["*-*-* 09:00:00"], "2011-12-28 20:00:00", 3),
    # clocks back
    ("30 2 * * *", BERLIN, ["*-*-* 02:30:00"], "2026-10-24 12:00:00", 2),
    ("*/20 2 * * *", BERLIN, ["*-*-* 02:00/20:00"], "2026-10-24 12:00:00", 4),
    ("0 2,3 * * *", BERLIN, ["*-*-* 02,03:00:00"], "2026-10-24 12:00:00", 3),
    ("30 1 * * *", YORK, ["*-*-* 01:30:00"], "2026-10-31 12:00:00", 2),
    ("0 1 1 nov *", YORK, ["*-11-01 01:00:00"], "2026-10-01 00:00:00", 2),
    ("45 1 * * *", HOWE, ["*-*-* 01:45:00"], "2026-04-04 00:00:00", 2),
    ("15 1 * * *", HOWE, ["*-*-* 01:15:00"], "2026-04-04 00:00:00", 2),
    # every real hour
    ("0 * * * *", BERLIN, ["*-*-* *:00:00"], "2026-03-28 23:30:00", 4),
    ("30 * * * *", YORK, ["*-*-* *:30:00"], "2026-03-08 05:00:00", 4),
    ("0 * * * *", BERLIN, ["*-*-* *:00:00"], "2026-10-24 23:30:00", 4),
    ("*/30 * * * *", YORK, ["*-*-* *:00/30:00"], "2026-11-01 04:45:00", 6),
    ("0 * * * *", HOWE, ["*-*-* *:00:00"], "2026-10-03 14:00:00", 4),
    ("45 * * * *", HOWE, ["*-*-* *:45:00"], "2026-04-04 14:00:00", 4),
    ("0 0-23 * * *", BERLIN, ["*-*-* *:00:00"], "2026-10-25 00:30:00", 2),
]

# (cron, zone, after): time, why it is not systemd's
JUMP = "does not exist, due at the jump"
OURS = {
    ("30 2 * * *", BERLIN, "2026-03-28 01:30:00"): ("2026-03-29 01:00:00", "02:30 " + JUMP),
    ("*/20 2 * * *", BERLIN, "2026-03-28 01:40:00"):
        ("2026-03-29 01:00:00", "02:00, 02:20 and 02:40 do not exist, due once at the jump"),
    ("30 2,3 * * *", BERLIN, "2026-03-28 12:00:00"): ("2026-03-29 01:00:00", "02:30 " + JUMP),
    ("30 2 29 3 *", BERLIN, "2026-03-01 00:00:00"): ("2026-03-29 01:00:00", "02:30 " + JUMP),
    ("30 2 * * sun", YORK, "2026-03-03 00:00:00"): ("2026-03-08 07:00:00", "02:30 " + JUMP),
    ("15 2 * * *", HOWE, "2026-10-02 15:45:00"): ("2026-10-03 15:30:00", "02:15 " + JUMP),
    ("0 3 * * *", CHATHAM, "2026-09-25 18:00:00"): ("2026-09-26 14:00:00", "03:00 " + JUMP),
    ("0 2,3 * * *", CHATHAM, "2026-09-26 13:15:00"): ("2026-09-26 14:00:00", "03:00 " + JUMP),
    ("0 9 * * *", APIA, "2011-12-29 19:00:00"):
        ("2011-12-30 10:00:00", "the whole 30 December does not exist, due at the jump"),
    ("0 * * * *", BERLIN, "2026-10-25 00:00:00"): ("2026-10-25 01:00:00", "02:00 again, a real hour"),
    ("*/30 * * * *", YORK, "2026-11-01 05:30:00"):
        ("2026-11-01 06:00:00", "01:00 again, real half hours"),
    ("45 * * * *", HOWE, "2026-04-04 14:45:00"): ("2026-04-04 15:15:00", "01:45 is shown again"),
    ("0 0-23 * * *", BERLIN, "2026-10-25 00:30:00"):
        ("2026-10-25 01:00:00", "02:00 again, a real hour"),
}


def systemd(expressions, zone, after):
    """The earliest time of the expressions in the zone, after a time; both in UTC."""
    found = []
    for expression in expressions:
        text = subprocess.run(
            ["systemd-analyze", "calendar", "--iterations=1", f"--base-time={after} UTC",
             f"{expression} {zone}"],
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
        found.append(re.search(r"Next elapse: \w+ (\d+-\d+-\d+ \d+:\d+:\d+) UTC", text)[1])
    return min(found)


def record():
    yield ("# Written by cron_vectors.py. systemd: what it says is next; ours: what our rule says, "
           "= when it is the same.")
    yield "# cron;zone;after;systemd expressions;systemd;ours;why"
    left = dict(OURS)
    for cron, zone, expressions, after, count in CASES:
        for _ in range(count):
            theirs = systemd(expressions, zone, after)
            ours, why = left.pop((cron, zone, after), (None, ""))
            if ours == theirs:
                raise SystemExit(f"{cron} {zone} {after}: no difference to be explained")
            yield ";".join([cron, zone, after, " | ".join(expressions), theirs, ours or "=", why])
            after = ours or theirs
    if left:
        raise SystemExit(f"no case comes to {left}")


def main():
    path = pathlib.Path(__file__).with_suffix(".csv")
    text = "\n".join(record()) + "\n"
    if sys.argv[1:] == ["--check"]:
        return int(path.read_text(encoding="utf-8") != text)
    if sys.argv[1:]:
        raise SystemExit(__doc__)
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
