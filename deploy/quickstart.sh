#!/usr/bin/env bash
# Quick start: installs what is missing, builds, and shows the main job for eight users, with four
# SoftHSM tokens and simulated services, ending with a proof by other people's tools. Leaves nothing
# running. Needs root or sudo only when a package is missing.
#
#   deploy/quickstart.sh [--keep]      --keep: don't remove the temporary folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
    cmake ninja-build gcc libc6-dev pkg-config
    libssl-dev libp11-kit-dev libp11-dev libcurl4-openssl-dev libcjson-dev libsqlite3-dev
    libyaml-dev libicu-dev libseccomp-dev libarchive-dev libcmocka-dev
    softhsm2 openssl libengine-pkcs11-openssl python3 python3-cryptography
)
# Not needed, but their word counts in the proof where they are there: openssl reads every PFX.

say() { printf '%s\n' "$*" >&2; }

missing() {
    local package
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

install_missing() {
    local need=() as_root=()
    mapfile -t need < <(missing)
    ((${#need[@]})) || return 0
    if ! command -v apt-get >/dev/null; then
        say "quickstart: these packages are missing, and there is no apt-get: ${need[*]}"
        exit 1
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            say "quickstart: these packages are missing, and installing them needs root:"
            say "    apt-get install ${need[*]}"
            say "Run that as root, then this script again as yourself."
            exit 1
        fi
        as_root=(sudo)
    fi
    say "Installing ${#need[@]} packages: ${need[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends "${need[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        say "quickstart: the packages can't be installed (see above)"
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

build() {
    local folder=$1 log
    log=$(mktemp)
    say "Building in $folder"
    if ! { cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$folder" --target \
            pfx-agentd pfx-hsm pfx-uploader pfx-agent pfx-audit token-init; } \
        >"$log" 2>&1; then
        grep -E 'error|FAILED|CMake Error' -A4 "$log" | head -n 40 >&2 || tail -n 20 "$log" >&2
        say "quickstart: the build failed (see above)"
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

for word in "$@"; do
    case $word in
    --keep) ;;
    *)
        say "quickstart: no option $word; there is --keep"
        exit 2
        ;;
    esac
done
install_missing
# The clone may belong to somebody else (root, after a first run): then build beside it, privately.
folder=build
if [[ -e $folder && ! -w $folder ]] || [[ ! -e $folder && ! -w . ]]; then
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/pfx-agent/build
    mkdir -p "$folder"
fi
build "$folder"
PFX_BUILD=$(cd "$folder" && pwd) exec /usr/bin/python3 hsm-test/tools/demo.py "$@"
