"""The container file and what composes it: each instruction carried out, and what it makes served.

No engine is needed: a base is a layer over this machine's files, in memory, as for the Debian
package, and what the base's own packages would bring has to be installed here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pytest

from pullstatus.cli import main
from tests.harness import ROOT

FOLDER = ROOT / "dist/container"
FILE = FOLDER / "Containerfile"
COMPOSED = msgspec.yaml.decode((FOLDER / "compose.yaml").read_bytes())
BASE: Final = "docker.io/library/debian:bookworm-slim"
USER: Final = "10001:10001"
HELD: Final = "--clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"

LAYERS = """
set -eux
mkdir layers
mount -t tmpfs none layers
layer() {
    machine=$PWD/layers/$1/machine
    upper=layers/$1/upper work=layers/$1/work
    mkdir -p "$upper" "$work" "$machine"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$upper,workdir=$work" "$machine"
    mount -t proc proc "$machine/proc"
    mount --bind /dev "$machine/dev"
    # What a package holds is not what is tried: it must be one that there is.
    printf '%s\\n' '#!/bin/sh' 'test "$1" = update && exit' 'shift' \\
        'for word; do case $word in -*) ;; *) dpkg-query --show "$word" || exit; esac; done' \\
        >"$machine/usr/local/bin/apt-get"
    chmod 755 "$machine/usr/local/bin/apt-get"
}
"""
SERVES = """
volume=$PWD/volume
cp -a "$machine$kept" "$volume"
mount -o remount,ro "$machine"
mount --bind "$volume" "$machine$kept"
mount -t tmpfs none "$machine/tmp"
ip link set lo up
cat >inside <<END
exec chroot "$machine" setpriv --reuid=${user%%:*} --regid=${user##*:} $held env -i $env "\\$@"
END
! sh inside touch /opt/here
sh inside PULLSTATUS_INSECURE=true "${entry[@]}" "${command[@]}" & server=$!
until sh inside "${health[@]}" 2>/dev/null; do kill -0 $server; sleep 0.3; done
test "$(stat -c %u "$volume/mailboxes.db")" = "${user%%:*}"
kill -$signal $server
wait $server
echo all of it
"""


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", FILE.read_text(encoding="utf-8")).replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in lines]


def script() -> Iterator[str]:
    """What carries out each of them, and sets what the last layer says of itself."""
    yield LAYERS
    layers, env = list[str](), {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    for name, rest in instructions():
        match name:
            case "FROM":
                base, *named = rest.split(" AS ")
                assert base == BASE
                layers.append(named[0] if named else "last")
                yield f"layer {layers[-1]}"
            case "RUN":
                within = f'env -i PATH={env["PATH"]} {of_pip()} chroot "$machine"'
                yield f"{within} sh -euxc {shlex.quote(rest)}"
            case "COPY":
                *words, target = rest.split()
                place = f'"$machine{target}"'
                yield f"mkdir -p {place}"
                origin = str(ROOT)
                if words[0].startswith("--from="):
                    origin = f"layers/{words.pop(0).removeprefix('--from=')}/machine/"
                for word in words:
                    what = Path(origin) / word.removeprefix("/")
                    into = "T" if not target.endswith("/") else ""
                    yield f"cp -r{into} {shlex.quote(str(what))} {place}"
            case "ENV":
                env |= dict(pair.split("=", 1) for pair in rest.split())
            case "USER":
                yield f"user={rest} held='{HELD}'"
            case "VOLUME":
                yield f"kept={rest}"
            case "STOPSIGNAL":
                yield f"signal={rest.removeprefix('SIG')}"
            case "ENTRYPOINT" | "CMD":
                field = {"ENTRYPOINT": "entry", "CMD": "command"}[name]
                yield f"{field}=({shlex.join(json.loads(rest))})"
            case "HEALTHCHECK":
                yield f"health=({shlex.join(json.loads(rest.partition(' CMD ')[2]))})"
            case _:
                assert name == "EXPOSE", name
    yield f"env={shlex.quote(shlex.join(f'{key}={value}' for key, value in env.items()))}"
    names = "machine kept user held env signal entry command health"
    yield f"declare -p {names} >said"
    yield f"unshare --net bash -euxc '. ./said{SERVES}'"


def of_pip() -> str:
    """What pip has to know of the network here."""
    known = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return shlex.join(f"{name}={value}" for name, value in known.items())


@pytest.mark.needs("root")
@pytest.mark.needs("unshare")
@pytest.mark.needs("ip")
def test_each_instruction_is_carried_out_and_what_they_make_serves_held(tmp_path: Path) -> None:
    """As nobody of note, on a root that is read-only, with no capability; it is well, and stops."""
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            "\n".join(script()),
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("all of it\n"), done.stderr[-3000:]


def test_the_layer_says_who_it_is_and_what_to_watch() -> None:
    said = dict(instructions())
    assert said["USER"] == USER
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in said["HEALTHCHECK"]
    assert {"VOLUME", "ENTRYPOINT"} <= set(said)


def variables(command: str) -> set[str]:
    """The names in the environment that a command reads."""
    found: click.Command = main.commands[command]
    return {str(each.envvar) for each in found.params if isinstance(each, click.Option)}


def test_what_is_composed_is_what_the_file_makes() -> None:
    services: dict[str, Any] = COMPOSED["services"]
    assert set(services) == {"server", "emulator", "prometheus"}
    said = dict(instructions())
    exposed = set(said["EXPOSE"].split())
    env = " ".join(rest for name, rest in instructions() if name == "ENV")
    assert set(re.findall(r"PULLSTATUS_\w+", env)) <= variables("serve")
    assert set(services["server"]["environment"]) <= variables("serve")
    for name in ("server", "emulator"):
        service = services[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["image"] == "pullstatus"
        assert all(port.rpartition(":")[2] in exposed for port in service["ports"])
    assert all(
        port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"]
    )
    assert services["server"]["volumes"] == [f"mailboxes:{said['VOLUME']}"]
    build = services["server"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).resolve() == FILE
    kept = {place.split(":")[0] for each in services.values() for place in each.get("volumes", [])}
    assert {name for name in kept if not name.startswith(".")} == set(COMPOSED["volumes"])


@pytest.mark.needs("promtool")
def test_prometheus_asks_the_server_and_has_the_alarms(tmp_path: Path) -> None:
    for place in COMPOSED["services"]["prometheus"]["volumes"]:
        source, target, *_ = place.split(":")
        if target.startswith("/etc/prometheus/"):
            (tmp_path / Path(target).name).write_bytes((FOLDER / source).read_bytes())
    settings = tmp_path / "prometheus.yml"
    subprocess.run(["promtool", "check", "config", settings], check=True, capture_output=True)
    [scraped] = msgspec.yaml.decode(settings.read_bytes())["scrape_configs"]
    assert scraped["job_name"] == "pullstatus"
    [[target]] = [each["targets"] for each in scraped["static_configs"]]
    host, _, port = target.partition(":")
    assert host in COMPOSED["services"]
    assert f"PULLSTATUS_ADMIN=0.0.0.0:{port}" in FILE.read_text(encoding="utf-8")
