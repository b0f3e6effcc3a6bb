#!/usr/bin/env bash
# Installs, from Debian's packages, the MQTT brokers that tests/e2e/upstream starts for itself, the libraries whose
# certificates tests/e2e/corpus tries (Go's and Java's too, where those are), and the faketime that `make test-later`
# runs under. It starts no broker: what a package's own script wants to start is held back by a
# policy-rc.d, as long as apt runs.
set -euo pipefail

packages=(mosquitto mosquitto-clients rabbitmq-server gnutls-bin libmbedtls-dev faketime)
policy=/usr/sbin/policy-rc.d
aside=$policy.before-thingmint

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

forbids_starting() {
    local status=0
    [ -x "$policy" ] || return 1
    "$policy" mosquitto start >/dev/null 2>&1 || status=$?
    [ "$status" -eq 101 ]
}

hold_back() {
    if [ -e "$aside" ]; then return; fi # an earlier run was killed: what was there before it is still to be restored
    if [ -e "$policy" ]; then mv "$policy" "$aside"; else : >"$aside"; fi
}

restore() {
    if [ -s "$aside" ]; then mv "$aside" "$policy"; else rm -f "$policy" "$aside"; fi
}

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || {
    echo "make services is for Debian and its relatives; elsewhere install ${packages[*]} by other means"
    exit 1
}

missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "${packages[*]} are installed; nothing to do"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || {
    echo "make services installs packages, so it has to be run as root; missing: ${missing[*]}"
    exit 1
}

if ! forbids_starting || [ -e "$aside" ]; then
    trap restore EXIT
    trap 'exit 130' INT TERM HUP
    hold_back
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
echo "installing ${missing[*]}; no service is started"
export DEBIAN_FRONTEND=noninteractive
apt="apt-get --quiet --quiet --option=DPkg::Lock::Timeout=300"
$apt update
$apt install --yes --no-install-recommends "${missing[@]}"
