#!/usr/bin/env bash
# Fuzzes all targets at once for so many seconds (20 unless told). Ends with one line for each:
# executions, and branches that were reached.
#
#   hsm-test/fuzz/run.sh [SECONDS [TARGET...]]
#   PFX_FUZZ_RUNS=10000000 hsm-test/fuzz/run.sh 1 frame      so many executions instead of seconds
#   PFX_FUZZ_SEED=1 hsm-test/fuzz/run.sh                      the same inputs each time
#
# Builds in build/fuzz with clang. What it learns stays there; an input that fails is kept there, too:
# once mended it belongs in hsm-test/fuzz/corpus/TARGET, which every build checks.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
seconds=${1:-20}
shift || true
build=${PFX_FUZZ_BUILD:-$PWD/build/fuzz}
folder=$PWD/hsm-test/fuzz
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: hsm-test/fuzz/run.sh [SECONDS [TARGET...]]" >&2
    exit 2
fi
targets=("$@")
if ((!${#targets[@]})); then
    for source in "$folder"/fuzz_*.c; do
        name=${source##*/fuzz_}
        targets+=("${name%.c}")
    done
fi

mkdir -p "$build/found"
# shellcheck source=hsm-test/fuzz/build.sh
. "$folder/build.sh"
fuzz_build "$build" || exit 1

fuzz() {
    local name=$1 learned=$build/learned/$1 options
    mkdir -p "$learned"
    options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256
        -max_len=16384 -seed="${PFX_FUZZ_SEED:-0}" -print_final_stats=1 -artifact_prefix="$build/found/$name-")
    if [[ -n ${PFX_FUZZ_RUNS:-} ]]; then # as many, however long that takes
        options+=(-runs="$PFX_FUZZ_RUNS" -max_total_time=0)
    fi
    [[ ! -f $folder/$name.dict ]] || options+=(-dict="$folder/$name.dict")
    LLVM_PROFILE_FILE=/dev/null "$build/hsm-test/fuzz_$name" "${options[@]}" "$learned" \
        "$folder/corpus/$name" >"$build/$name.log" 2>&1
}
# number NAME WORD: the last number behind this word in the target's output.
number() {
    awk -v word="$2" '{for (i = 1; i < NF; i++) if ($i == word) n = $(i + 1)}
        END {print n == "" ? "no" : n}' "$build/$1.log"
}

declare -A pids=()
for name in "${targets[@]}"; do
    fuzz "$name" &
    pids[$name]=$!
done
failed=0
for name in "${targets[@]}"; do
    verdict=ok
    if ! wait "${pids[$name]}"; then
        verdict=FAIL
        failed=1
        tail -n 40 "$build/$name.log"
    fi
    printf '%-5s fuzz %s: %s executions, %s branches reached\n' "$verdict" "$name" \
        "$(number "$name" stat::number_of_executed_units:)" "$(number "$name" cov:)"
done
exit $failed
