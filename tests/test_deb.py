"""The Debian package: built, installed, used and purged, in a copy of this machine's files.

The copy is a layer over them, in memory: what is installed there is nowhere else.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT

INSTALLED = r"""
set -eux
mkdir layer
layer=$PWD/layer
mount -t tmpfs none "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/machine"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/machine"
mount -t proc proc "$layer/machine/proc"
mount --bind /dev "$layer/machine/dev"
cp pullstatus.deb "$layer/machine/pullstatus.deb"
exec chroot "$layer/machine" /bin/sh -eux <<'END'
cd /
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
KEY=0123456789abcdef0123456789abcdef
as_user="setpriv --reuid=pullstatus --regid=pullstatus --init-groups"
# Else all manual pages of the machine are read for an index.
echo man-db man-db/auto-update boolean false | debconf-set-selections
dpkg -i pullstatus.deb
test -n "$(find /opt/pullstatus/lib -path '*/pullstatus/cli/__pycache__/*.pyc')"
$as_user pullstatus app create 1400006666 --appkey "$KEY" >/dev/null
$as_user pullstatus token create carrier --sdkappid 1400006666 >token
test -s /var/lib/pullstatus/mailboxes.db
$as_user pullstatus serve --port 0 >listens & server=$!
until grep -q listens listens; do kill -0 $server; sleep 0.1; done
# Pages of more than 16 KiB, and bodies, by Debian's Python.
export PULLSTATUS_URL=$(sed -n 's/.*on //p' listens) PULLSTATUS_SDKAPPID=1400006666
export PULLSTATUS_APPKEY=$KEY PULLSTATUS_TOKEN=$(sed -n 's/.*"token": "\(.*\)".*/\1/p' token)
for number in $(seq 300); do
    echo '{"user_receive_time":"2026-01-02 03:04:05","nationcode":"86","mobile":"13800000000",'\
        '"report_status":"SUCCESS","errmsg":"DELIVRD","description":"delivered, as it was sent",'\
        "\"sid\":\"8:$number\"}"
done >records.ndjson
pullstatus push records.ndjson --type delivery-status
pullstatus pull --type delivery-status --to pulled.ndjson
test "$(wc -l <pulled.ndjson)" = 300
kill $server
wait $server
$as_user pullstatus backup --into /var/backups/pullstatus --keep 2
man -w pullstatus-serve >/dev/null
# A new version that does not start.
mkdir -p /run/systemd/system
printf '#!/bin/sh\ntest "$1" != try-restart\n' >systemctl
chmod +x systemctl
mv systemctl /usr/bin/systemctl
dpkg -i pullstatus.deb 2>said
grep 'pullstatus.service did not start' said
dpkg --purge pullstatus
test ! -e /opt/pullstatus -a ! -e /etc/pullstatus.toml -a -s /var/lib/pullstatus/mailboxes.db
echo all of it
END
"""


@pytest.mark.needs("root")
@pytest.mark.needs("unshare")
@pytest.mark.needs("dpkg-deb")
@pytest.mark.needs("man")
def test_the_package_installs_serves_backs_up_and_goes_without_the_store(tmp_path: Path) -> None:
    manual = tmp_path / "man"
    manual.mkdir()
    (manual / "pullstatus-serve.1").write_text(".TH PULLSTATUS-SERVE 1\n", encoding="utf-8")
    package = tmp_path / "pullstatus.deb"
    build = [ROOT / "dist/debian/build", package, "/usr/bin/python3", manual, "0.2.0.dev7"]
    subprocess.run([*map(str, build), "-Zgzip", "-z1"], check=True, capture_output=True)
    fields = subprocess.run(
        ["dpkg-deb", "--field", package], check=True, capture_output=True, text=True
    ).stdout
    assert "Version: 0.2.0~dev7\n" in fields
    used = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", INSTALLED],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.stdout.endswith("all of it\n"), used.stderr[-3000:]
