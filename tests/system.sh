#!/bin/sh
# Installs the programs that tests talk to, where this user may; says so where not. More can be
# named in the same way: system.sh influxd:influxdb. METERD_TEST_INSTALL=0 installs nothing.
set -eu

# program that must be there : Debian package that brings it
WANTED="mbpoll:mbpoll upsc:nut-client upsd:nut-server socat:socat chromium:chromium cc:gcc strace:strace xfs_io:xfsprogs faketime:faketime promtool:prometheus mariadbd:mariadb-server rsync:rsync npm:npm $*"
missing=""
for pair in $WANTED; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || [ -x "/sbin/${pair%%:*}" ] \
    || missing="$missing ${pair##*:}"
done
[ -e /usr/include/modbus/modbus.h ] || missing="$missing libmodbus-dev pkg-config"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
ls /usr/lib/galera/libgalera_smm.so >/dev/null 2>&1 || missing="$missing galera-4"
[ -n "$missing" ] || exit 0
if [ "${METERD_TEST_INSTALL:-1}" = 0 ]; then
  echo "not installed, as METERD_TEST_INSTALL=0 says:$missing (their tests are skipped)" >&2
  exit 0
fi

root=""
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then root="sudo -n"; else
    echo "not installed, and no right to:$missing (their tests are skipped)" >&2
    exit 0
  fi
fi
command -v apt-get >/dev/null 2>&1 || { echo "no apt-get here to install:$missing (their tests are skipped)" >&2; exit 0; }
echo "installing for the tests:$missing" >&2
# RUNLEVEL=1: nothing that comes with a package is to be started.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
{ $root apt-get update -qq && $root apt-get install -y -qq --no-install-recommends $missing; } >/dev/null \
  || echo "apt-get could not install:$missing (their tests are skipped)" >&2
