#!/usr/bin/env bash
# Installs Debian packages that some tests need: the MQTT brokers of tests/e2e/upstream, the TLS libraries of
# tests/e2e/corpus and tests/e2e/mqtt, faketime for `make test-later`, and Chromium for tests/e2e/console, for which npm
# also fetches axe-core and oidc-provider. It starts no broker: while apt runs, a policy-rc.d keeps the packages' own
# scripts from starting one.
# With --missing it installs nothing, and prints a line for each program that is not there.
set -euo pipefail

packages=(mosquitto mosquitto-clients rabbitmq-server gnutls-bin libmbedtls-dev gcc libc6-dev faketime chromium
    fonts-dejavu-core pngquant)
axe=axe-core@4.14.1
policy=/usr/sbin/policy-rc.d
aside=$policy.before-thingmint

report_missing() { # report_missing PROGRAM-OR-FILE WHAT-IS-SKIPPED
    [ -e "$1" ] || PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || echo "$1 is missing. Skipped: $2"
}

if [ "${1:-}" = --missing ]; then
    report_missing mosquitto "the tests with Mosquitto in tests/e2e/upstream"
    report_missing mosquitto_sub "the test with mosquitto_sub in tests/e2e/mqtt/test_sessions.py"
    report_missing rabbitmq-server "the tests with RabbitMQ in tests/e2e/upstream"
    report_missing certtool "the certificates of GnuTLS in tests/e2e/corpus"
    report_missing gcc "the tests with Mbed TLS in tests/e2e/corpus and tests/e2e/mqtt/test_boards.py"
    report_missing /usr/include/mbedtls/ssl.h "the same tests with Mbed TLS"
    report_missing faketime "make test-later"
    report_missing chromium "the tests with Chromium in tests/e2e/console"
    report_missing build/axe-core/axe.min.js "the checks of accessibility in tests/e2e/console"
    report_missing build/oidc-provider/node_modules "the OpenID Connect provider in tests/e2e/console"
    exit 0
fi

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
    if [ -e "$aside" ]; then return; fi # an earlier run was killed and did not restore the original file
    if [ -e "$policy" ]; then mv "$policy" "$aside"; else : >"$aside"; fi
}

restore() {
    if [ -s "$aside" ]; then mv "$aside" "$policy"; else rm -f "$policy" "$aside"; fi
}

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || {
    echo "make services works on Debian and systems based on it. Elsewhere, install ${packages[*]} by other means"
    exit 1
}

fetch_axe() { # axe-core checks the accessibility of pages. It is used by tests only, and not committed.
    if [ -e build/axe-core/axe.min.js ]; then return; fi
    command -v npm >/dev/null || { echo "npm is missing: axe-core is not fetched"; return; }
    mkdir -p build/axe-core
    local archive
    archive=build/axe-core/$(npm pack --silent --pack-destination=build/axe-core "$axe")
    tar --extract --gzip --file="$archive" --directory=build/axe-core --strip-components=1 \
        package/axe.min.js package/LICENSE
    rm "$archive"
}

fetch_provider() { # An OpenID Connect provider. Tests sign in through it; it is not committed.
    local folder=build/oidc-provider lock=tests/e2e/console/provider/package-lock.json
    if [ -e "$folder/node_modules" ] && cmp --silent "$lock" "$folder/package-lock.json"; then return; fi
    command -v npm >/dev/null || { echo "npm is missing: oidc-provider is not fetched"; return; }
    mkdir -p "$folder"
    cp "${lock%/*}"/package*.json "$folder"
    (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts)
}

fetch_axe
fetch_provider
missing=()
for package in "${packages[@]}"; do
    is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "${packages[*]} are installed; nothing to do"
    exit 0
fi
[ "$(id -u)" -eq 0 ] || {
    echo "make services installs packages: run it as root. Missing: ${missing[*]}"
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
