#!/usr/bin/env bash
# Prints which lines of the parsers (parsers.txt) the inputs in corpus/ reach, and fails where that
# is less than 90 % of a file: nothing that a fuzzer learned counts.
#
#   hsm-test/fuzz/coverage.sh [--lines FILE]     FILE: print its lines that aren't reached
#
# Builds in build/fuzz, as run.sh does.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
folder=$PWD/hsm-test/fuzz
build=${PFX_FUZZ_BUILD:-$PWD/build/fuzz}
mkdir -p "$build/coverage"
# shellcheck source=hsm-test/fuzz/build.sh
. "$folder/build.sh"
fuzz_build "$build" || exit 1
rm -f "$build"/coverage/*

programs=()
count() {
    LLVM_PROFILE_FILE=$build/coverage/$1.profraw "$build/hsm-test/fuzz_$1" -runs=0 -timeout=20 \
        "$folder/corpus/$1" >"$build/coverage/$1.log" 2>&1
}
export -f count
export build folder
names=()
for source in "$folder"/fuzz_*.c; do
    name=${source##*/fuzz_}
    names+=("${name%.c}")
    programs+=(-object "$build/hsm-test/fuzz_${name%.c}")
done
if ! printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c 'count {}'; then
    for name in "${names[@]}"; do
        grep -lE 'ERROR|runtime error' "$build/coverage/$name.log" && tail -n 30 "$build/coverage/$name.log"
    done
    exit 1
fi
llvm-profdata merge -sparse -o "$build/coverage/all.profdata" "$build"/coverage/*.profraw &&
    llvm-cov export -format=lcov -instr-profile="$build/coverage/all.profdata" \
        "${programs[@]:1}" >"$build/coverage/all.lcov" &&
    exec /usr/bin/python3 -B "$folder/coverage.py" "$build/coverage/all.lcov" "$folder/parsers.txt" \
        "$PWD" "$@"
