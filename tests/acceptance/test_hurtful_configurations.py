"""A hundred configurations that hurt: each ends in words with a place, soon, and in little memory.

Bombs, depths, strange bytes, text that would be code somewhere else, and every fourth of the
faults whose exact places the loader's own tests know. Seconds are the processor's: a busy machine
fails nobody.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.cli import clean_environment
from tests.unit.config.loading import BASE, ENV, marked
from tests.unit.config.test_problems import FAULTS

SECONDS = 2.0
MEGABYTES = 300

CONNECTIONS, TAIL = BASE.split("  hs:\n")

HURTFUL: dict[str, bytes | str] = {
    "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "an anchor that holds itself": "kpis: &k {use: *k}\n",
    "brackets without end": "[" * 100_000,
    "braces without end": BASE + "kpis: " + "{a: " * 5_000,
    "a staircase of blocks": "".join(f"{' ' * step}a:\n" for step in range(1_200)),
    "dashes without end": BASE + "kpis:\n" + "  " + "- " * 20_000 + "x\n",
    "a megabyte of nothing": BASE + "#" * 1_100_000,
    "a megabyte of one word": BASE + "database: " + "x" * 1_100_000 + "\n",
    "60,000 keys": BASE + "".join(f"k{number}: 1\n" for number in range(60_000)),
    "40,000 list items": BASE + "kpis: {use: [" + "sales, " * 40_000 + "]}\n",
    "20,000 lines that each are wrong": BASE + "".join(f"k{n}: [\n" for n in range(20_000)),
    "a key of 90,000 letters": BASE + "k" * 90_000 + ": 1\n",
    "bytes of a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 40,
    "zeros": b"\x00" * 4_096,
    "UTF-16": BASE.encode("utf-16"),
    "UTF-16 without its mark": BASE.encode("utf-16-le"),
    "Latin-1": (BASE + "sinks: {büro: {}}\n").encode("latin-1"),
    "half a letter at the end": BASE.encode() + b"database: \xe2\x82",
    "an overlong slash": BASE.encode() + b"database: sqlite:\xc0\xaf\n",
    "a lone surrogate in bytes": BASE.encode() + b"database: \xed\xa0\x80\n",
    "a comment alone": "# nothing\n",
    "nothing": "",
    "blanks": " \n\t\n  \n",
    "one word": "kpisync",
    "one number": "7",
    "null": "~\n",
    "JSON cut in half": '{"version": 1, "company": {"currency": "EU',
    "XML": "<?xml version='1.0'?><kpisync/>\n",
    "a script": '#!/bin/sh\nrm -rf "$HOME"\n',
    "code as a tag": BASE + "database: !!python/object/apply:os.system ['id']\n",
    "code as a local tag": BASE + "database: !exec 'id'\n",
    "a binary tag": BASE + "database: !!binary aGVsbG8=\n",
    "a null as a key": BASE + "~: 1\n",
    "a truth value as a key": BASE + "true: 1\n",
    "a map as a key": BASE + "? {a: b}\n: 1\n",
    "dunder keys": BASE + "__class__: {__init__: x}\n",
    "a reserved indicator": BASE + "database: @home\n",
    "a backtick": BASE + "database: `id`\n",
    "a shell in a reference": BASE + "database: ${$(id)}\n",
    "a reference in a reference": BASE + "database: ${A:-${B}}\n",
    "a reference left open": BASE + "database: '${A'\n",
    "a secret file that is a folder": BASE + "database: ${file:.}\n",
    "a secret file that never ends": BASE + "database: ${file:/dev/zero}\n",
    "a secret file that is no text": BASE + "database: ${file:/proc/self/environ}x\n",
    "a secret file with a zero in its name": BASE + 'database: "${file:a\\0b}"\n',
    "a secret file that is not there": BASE + "database: ${file:../../../../nowhere}\n",
    "a time zone that is a path": BASE.replace("Europe/Berlin", "../../etc/passwd"),
    "an absolute time zone": BASE.replace("Europe/Berlin", "/etc/localtime"),
    "a currency in look-alike letters": BASE.replace("currency: EUR", "currency: \u0415UR"),
    "an address with a user": BASE.replace(
        "https://acme.my.salesforce.com", "https://acme.my.salesforce.com@evil.example"
    ),
    "an address of another scheme": BASE.replace(
        "https://acme.my.salesforce.com", "file:///etc/passwd"
    ),
    "an address in plain http": BASE.replace("https://acme", "http://acme"),
    "an address with a line break": BASE.replace(
        "https://acme.my.salesforce.com", '"https://acme.my.salesforce.com\\r\\nX: y"'
    ),
    "an address of the machine itself": BASE + "    base_url: http://169.254.169.254/latest\n",
    "a port out of range": BASE + "    base_url: https://127.0.0.1:99999\n",
    "a schedule of centuries": BASE + "    every: 9999999999999999999999d\n",
    "a schedule of minus one": BASE + "    every: -1m\n",
    "a schedule that never comes": BASE + '    full_refresh: "0 0 31 2 *"\n',
    "a schedule as long as a book": BASE + '    full_refresh: "' + "*/1," * 50_000 + '1 * * * *"\n',
    "a schedule with a million fields": BASE + '    every: "' + "* " * 100_000 + '"\n',
    "a percentage of 10^400": BASE + "    limits: {daily_calls: 1" + "0" * 400 + "%}\n",
    "not a number": BASE + "    limits: {daily_calls: .nan}\n",
    "infinity": BASE + "    limits: {daily_calls: .inf}\n",
    "5,000 digits": BASE + "    limits: {daily_calls: " + "9" * 5_000 + "}\n",
    "a version of 10^309": BASE.replace("version: 1", "version: 1e309"),
    "a field that is a query": BASE.replace(
        "  hs:\n",
        "    streams: {deals: {fields: {a: 'Id FROM User--'}}}\n  hs:\n",
    ),
    "a field name that climbs": BASE.replace(
        "  hs:\n", "    streams: {deals: {fields: {a: '../../Secret__c'}}}\n  hs:\n"
    ),
    "an object that is a path": BASE.replace(
        "  hs:\n", "    streams: {deals: {object: '../Opportunity?x='}}\n  hs:\n"
    ),
    "a field called like a built-in": BASE
    + "    streams: {deals: {fields: {'__proto__; drop': x}}}\n",
    "a connection called like a path": BASE + "  ../../etc: {type: hubspot}\n",
    "a connection with a colon": BASE + "  'a:b': {type: hubspot}\n",
    "a control character in a name": BASE + '  "a\\eb": {type: hubspot}\n',
    "writing from right to left": BASE + '  "a\\u202eb": {type: hubspot}\n',
    "a KPI called like a function": BASE + "kpis: {settings: {__import__: {window: 90d}}}\n",
    "a dimension that is SQL": BASE
    + 'kpis: {settings: {win_rate: {by: ["owner\'; DROP TABLE deals--"]}}}\n',
    "a window of a million years": BASE + "kpis: {settings: {churn_rate: {window: 365000000d}}}\n",
    "a database that is a command": BASE + 'database: "|id"\n',
    "a broker of another kind": BASE + 'broker: "amqp://x"\n',
    "an alert channel that is a file": BASE + "alerts: {channels: {a: 'file:///etc/passwd'}}\n",
    "a sink into a system file": BASE
    + "sinks: {bi: {type: postgres, url: 'file:///etc/passwd', table: 'kpi; DROP'}}\n",
    "a table name with quotes": BASE
    + "sinks: {bi: {type: postgres, url: 'postgresql://h/d', table: 'a\"b'}}\n",
    "a write-back into the id": BASE
    + "writebacks: {w: {to: sf.Account, fields: {'Id FROM Account': revenue}}}\n",
    "a guard that guards nothing": BASE
    + "writebacks: {w: {to: sf.Account, fields: {A__c: revenue}, guard: {max_changed: 900%}}}\n",
    "an object in another's path": BASE
    + "writebacks: {w: {to: 'sf.Account/../User', fields: {A__c: revenue}}}\n",
    "rounding without end": BASE
    + "writebacks: {w: {to: sf.Account, fields: {A__c: revenue}, round: {A__c: 1000000}}}\n",
    "a page of nothing": BASE + "advanced: {page_size: 0}\n",
    "steps beyond memory": BASE + "advanced: {step_rows: 99999999999}\n",
    "a wait of nothing": BASE + "advanced: {lease: 0s}\n",
}


@dataclass(frozen=True)
class Checked:
    """What one check left behind."""

    exit: int
    seconds: float
    megabytes: float
    words: str


def _written(folder: Path) -> dict[str, str]:
    """Every configuration as a file; file name by the words that name it."""
    names: dict[str, str] = {}
    plain = {name: marked(FAULTS[name][0])[0] for name in list(FAULTS)[::4]}
    texts: dict[str, bytes | str] = {**plain, **HURTFUL}
    for number, (name, content) in enumerate(texts.items()):
        file = folder / f"{number:03d}.yaml"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        names[name] = file.name
    return names


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checked]:
    folder = tmp_path_factory.mktemp("hurtful")
    names = _written(folder)
    process = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.many_checks", str(folder)],
        env=clean_environment() | ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    outcomes = {one["name"]: one for one in map(json.loads, process.stdout.splitlines())}
    return {
        name: Checked(
            outcomes[file]["exit"],
            outcomes[file]["seconds"],
            outcomes[file]["megabytes"],
            (folder / f"{file}.out").read_text(encoding="utf-8", errors="backslashreplace"),
        )
        for name, file in names.items()
    }


def test_there_are_a_hundred_and_more(checked: dict[str, Checked]) -> None:
    assert len(checked) >= 100


def test_each_ends_as_an_invalid_configuration_with_file_line_and_column(
    checked: dict[str, Checked],
) -> None:
    place = re.compile(r"\d{3}\.yaml:\d+:\d+")
    wrong = {
        name: (one.exit, one.words[:300])
        for name, one in checked.items()
        if one.exit != 3 or not place.search(one.words)
    }
    assert not wrong


def test_none_shows_a_traceback_or_the_secret(checked: dict[str, Checked]) -> None:
    assert not [n for n, one in checked.items() if "Traceback" in one.words]
    assert not [n for n, one in checked.items() if ENV["TOKEN"] in one.words]


def test_none_sends_control_bytes_to_the_terminal(checked: dict[str, Checked]) -> None:
    control = {chr(code) for code in range(32)} - {"\n"} | {"\x7f", "\u202e"}
    assert not [n for n, one in checked.items() if control & set(one.words)]


def test_each_takes_less_than_two_seconds_and_300_megabytes(checked: dict[str, Checked]) -> None:
    assert not {n: one.seconds for n, one in checked.items() if one.seconds > SECONDS}
    assert not {n: one.megabytes for n, one in checked.items() if one.megabytes > MEGABYTES}
