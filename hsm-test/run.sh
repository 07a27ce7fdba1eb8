#!/usr/bin/env bash
# Installs what the tests need, builds three times (gcc's release; clang with sanitizers and counted
# lines; what has threads with ThreadSanitizer), runs everything, and ends with one line: N passed,
# N failed, N skipped.
#
#   hsm-test/run.sh [--long] [--only PART[,PART]]
#
#   --long   also valgrind over the unit tests, clang's static analyzer, every test of pfx-hsm with
#            ThreadSanitizer, repeated restarts, every end-to-end test on NSS, ten
#            minutes of a soak with random faults (PFX_SOAK_MINUTES, PFX_SOAK_SEED), and ten
#            minutes of fuzzing
#   --only   some of: packages gcc asan checks static units tsan fuzz e2e coverage systemd quickstart;
#            coverage counts what units and e2e ran of the asan build
#
# Nothing outside the clone and the temporary folder is touched, but for the packages. Data files that
# aren't part of the project are looked for in PFX_SHARED, or in ../shared beside the clone; what needs
# an absent one is skipped by name, and a skip is a failure where CI=true.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
root=$PWD
out=$root/build/test
long=0
only=packages,gcc,asan,checks,static,units,tsan,fuzz,e2e,coverage,systemd,quickstart

packages=(
    cmake ninja-build gcc libc6-dev clang clang-tidy cppcheck pkg-config shellcheck binutils
    libssl-dev libp11-kit-dev libp11-dev libcurl4-openssl-dev libcjson-dev libsqlite3-dev
    libyaml-dev libicu-dev libseccomp-dev libarchive-dev icu-devtools idn2 libcmocka-dev libclang-rt-14-dev llvm
    openssh-client softhsm2 libnss3 libnss3-tools p11-kit p11-kit-modules opencryptoki gnutls-bin opensc openssl libengine-pkcs11-openssl
    python3 python3-cryptography python3-yaml nginx-light squid iproute2 procps
    golang-go golang-golang-x-mod-dev
    mmdebstrap systemd-container gdb
)

say() { printf '%s\n' "$*"; }
part() { [[ ,$only, == *",$1,"* ]]; }
now() { date +%s; }
began=$(now)
heading() { printf '\n== %s (%d s)\n' "$1" $(($(now) - began)); }

while (($#)); do
    case $1 in
    --long) long=1 ;;
    --only) only=${2:?"--only needs parts"} && shift ;;
    *)
        say "run.sh: no option $1; there are --long and --only" >&2
        exit 2
        ;;
    esac
    shift
done

if [[ -z ${PFX_SHARED:-} && -d $root/../shared ]]; then
    PFX_SHARED=$(cd "$root/../shared" && pwd)
fi
export PFX_SHARED=${PFX_SHARED:-}
# In CI a tool that a test asks for has to be there.
[[ ${CI:-} != true ]] || export PFX_TEST_REQUIRE_ALL=1

rm -rf "$out"
mkdir -p "$out"
# Lines "passed|failed|skipped NAME [why]", one for each test; tally.py adds them up.
results=$out/results
: >"$results"
record() { printf '%s\t%s\t%s\n' "$1" "$2" "${3:-}" >>"$results"; }

# As a step that is a test by itself: its output is shown only when it fails.
step() {
    local name=$1 log=$out/${1//[^a-zA-Z0-9]/-}.log
    shift
    if "$@" >"$log" 2>&1; then
        record passed "$name"
        say "ok    $name"
    else
        record failed "$name" "see $log"
        say "FAIL  $name"
        grep -nE 'error:|CMake Error|FAILED:|undefined reference' "$log" | head -n 20 || true
        tail -n 20 "$log"
        return 1
    fi
}

# --- packages -----------------------------------------------------------------------------------

missing() {
    local package
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
            printf '%s\n' "$package"
    done
}

install_packages() {
    local need as_root=()
    mapfile -t need < <(missing "${packages[@]}")
    # Whatever Java and Node.js there are will do; Debian's otherwise.
    command -v keytool >/dev/null || need+=(default-jre-headless)
    command -v node >/dev/null && command -v npm >/dev/null || need+=(nodejs npm)
    ((!long)) || command -v valgrind >/dev/null || need+=(valgrind)
    ((${#need[@]})) || return 0
    ((EUID == 0)) || as_root=(sudo -n)
    say "installing: ${need[*]}"
    "${as_root[@]}" apt-get update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends "${need[@]}"
}

# install_node NAME: the packages of hsm-test/NAME by their lock file, into the build folder; their
# own scripts aren't run.
install_node() {
    local folder=$root/build/$1 from=hsm-test/$1
    if [[ -d $folder/node_modules ]] &&
        cmp -s "$from/package-lock.json" "$folder/package-lock.json"; then
        return 0
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$from/package.json" "$from/package-lock.json" "$folder/"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund)
}

# SoftHSM's RSA keys are most of the work of a test's own tokens.
((long)) || export PFX_QUICK_RSA=$root/build/gcc/hsm-test/quick_rsa.so

# --- builds -------------------------------------------------------------------------------------

build() {
    local folder=$root/build/$1
    shift
    cmake -S . -B "$folder" -G Ninja -DPFX_WERROR=ON "$@" && cmake --build "$folder" -- -k 0
}

# --- static analysis ----------------------------------------------------------------------------

# In time that nobody else wants (SCHED_IDLE), beside the other parts; its lines come at the end.
static_tools=(cppcheck gcc tidy)
((!long)) || static_tools+=(analyzer)
static_analysis() {
    local tool idle=(chrt --idle 0)
    "${idle[@]}" true 2>/dev/null || idle=(nice -n 19)
    [[ -f build/gcc/compile_commands.json ]] ||
        cmake -S . -B build/gcc -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc >/dev/null
    for tool in "${static_tools[@]}"; do
        step "static analysis: $tool" "${idle[@]}" /usr/bin/python3 -B hsm-test/tools/static.py build/gcc "$tool" &&
            tail -n 1 "$out/static-analysis--$tool.log"
    done
}

# --- sanitizers ---------------------------------------------------------------------------------

# LeakSanitizer traces its own process; one that isn't dumpable may only be traced with the
# capability (bit 19). Without it leaks can't be looked for, the rest can.
leaks=0
if ((0x$(awk '/^CapEff/ {print $2}' /proc/self/status) >> 19 & 1)); then
    leaks=1
fi
mkdir -p "$out/sanitizer"
chmod 1777 "$out/sanitizer" # some tests run a program as another user
sanitizer_environment() {
    export ASAN_OPTIONS="detect_leaks=$leaks:strict_string_checks=1"
    ASAN_OPTIONS+=":detect_stack_use_after_return=1"
    ASAN_OPTIONS+=":log_path=$out/sanitizer/report:log_exe_name=1:exitcode=99"
    export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:log_path=$out/sanitizer/report"
}

sanitizer_reports() {
    local report failed=0
    for report in "$out"/sanitizer/report*; do
        # Nothing but that LeakSanitizer's tracer met a process that was being killed.
        grep -qv 'Unable to get registers from thread' "$report" || continue
        failed=1
        /usr/bin/python3 -B hsm-test/tools/symbolize.py "$report"
    done
    return $failed
}

# What has threads; its tests, and with --long every test of pfx-hsm and of the PKCS#11 library.
threads=(pfx-hsm pfx-agent token-init hsm_slow_module hsm_queue hsm_oplog hsm_log_notes pkcs11_use)
racy='hsm_queue|hsm_oplog|hsm_log_notes|hsm_flow|pkcs11_use'
if ((long)); then
    threads=(all)
    racy='hsm_.*|hostile_hsm|pkcs11_.*|uploader_co|uploader_cmp'
fi
build_tsan() {
    cmake -S . -B build/tsan -G Ninja -DPFX_WERROR=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DPFX_SANITIZE=thread -DCMAKE_C_COMPILER=gcc &&
        cmake --build build/tsan --target "${threads[@]}"
}
thread_tests() {
    # Its shadow memory has places of its own, which a kernel may have given to something else.
    local fixed=(setarch --addr-no-randomize)
    "${fixed[@]}" true 2>/dev/null || fixed=()
    export TSAN_OPTIONS="log_path=$out/sanitizer/report:log_exe_name=1:exitcode=99"
    TSAN_OPTIONS+=":second_deadlock_stack=1"
    in_place=${fixed[*]} units tsan --tests-regex "^($racy)\$"
    unset TSAN_OPTIONS
}

# --- tests --------------------------------------------------------------------------------------

# units BUILD [OPTION...]. Most of their time is waiting, hence three at once. What fails is tried once
# more, and told: many of them hold real processes to a deadline, on a machine that does other things.
units() {
    local build=$root/build/$1 name=units-$1
    # shellcheck disable=SC2086 # some words, or none
    (cd "$build" && PFX_LONG=$long ${in_place:-} ctest -j 3 "${@:2}" --timeout $((long ? 7200 : 300)) --repeat until-pass:2 \
        --output-junit "$out/$name.xml" --output-on-failure >"$out/$name.log" 2>&1)
    sed -nE 's|^ *[0-9]+/[0-9]+ +Test +#[0-9]+: ([a-z0-9_]+) .*\*\*\*.*|failed at the first try: \1|p' "$out/$name.log"
    if [[ -s $out/$name.xml ]]; then
        /usr/bin/python3 hsm-test/tools/tally.py --junit "$name" "$out/$name.xml" >>"$results"
    else
        record failed "$name" "ctest didn't run: see $out/$name.log"
        tail -n 20 "$out/$name.log"
    fi
}

memcheck() {
    local test
    for test in "$root"/build/gcc/hsm-test/{crypto,wire,conf,cli,agent,uploader,audit}_* \
        "$root"/build/gcc/hsm-test/{logdir,hsm_queue,hsm_formats,hsm_log_notes,hsm_oplog}; do
        [[ -x $test && -f $test ]] || continue
        # The guard pages of secrets are made to fault in a child; wiping needs its own malloc.
        case $test in *_tool | *.so | *crypto_secret | *crypto_wipe | *wire_json | *uploader_unwiped) continue ;; esac
        step "valgrind ${test##*/}" valgrind -q --error-exitcode=99 --leak-check=full \
            --errors-for-leak-kinds=definite "$test"
    done
}

# e2e BUILD PATIENCE TOKEN [OPTION...]
e2e() {
    PFX_BUILD=$root/build/$1 PFX_BUILD_RELEASE=$root/build/gcc PFX_PATIENCE=$2 PFX_TOKEN=$3 \
        PFX_PRISM=$root/build/prism PFX_INTEROP=$root/build/interop PFX_LONG=$long \
        /usr/bin/python3 hsm-test/e2e/run.py --results "$results" --jobs 3 \
        --log "$out/e2e-$3.log" "${@:4}"
}

# Those of this clone, and those that don't let anybody see whose they are.
daemons() {
    local pid path
    for pid in $(ps -C pfx-agentd,pfx-hsm,pfx-uploader -o pid=); do
        path=$(readlink "/proc/$pid/exe") || path=$root/
        [[ $path != "$root"/* ]] || echo "$pid"
    done | sort
}
# Daemons that run now and didn't before.
nothing_left() {
    local left
    left=$(comm -13 <(printf '%s\n' "$1") <(daemons))
    [[ -z $left ]] || { say "still running: $left" && return 1; }
}

ok=1
if part packages; then
    heading packages
    step "packages" install_packages || ok=0
    step "prism" install_node prism || true
    step "sigstore" install_node interop || true
fi
if ((ok)) && part gcc; then
    heading "build: gcc"
    step "build gcc" build gcc -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=gcc || ok=0
fi
if ((ok)) && part asan; then
    heading "build: clang, sanitizers, counted lines"
    sanitizer_environment
    rm -rf build/asan/profile
    mkdir -p build/asan/profile
    chmod 1777 build/asan/profile # some tests run a program as another user
    step "build clang with sanitizers" build asan -DCMAKE_BUILD_TYPE=RelWithDebInfo \
        -DPFX_SANITIZE=ON -DPFX_COVERAGE=ON -DCMAKE_C_COMPILER=clang
fi
static=
if ((ok)) && part static; then
    static_analysis >"$out/static.log" 2>&1 &
    static=$!
fi
if ((ok)) && part checks; then
    heading "source checks"
    hsm-test/checks.sh "$root/build/gcc" "$results" || true
fi
if ((ok)) && part units; then
    # What runs whole programs (label "program") runs on the sanitizer build, and on NSS below on the
    # release build; --long runs it on both.
    heading "unit tests, release"
    release=(--label-exclude program)
    ((long)) && release=()
    units gcc "${release[@]}"
    heading "unit tests, sanitizers"
    sanitizer_environment
    units asan
    if ((long)); then
        heading "unit tests, valgrind"
        memcheck
    fi
fi
if ((ok)) && part tsan; then
    heading "threads: ThreadSanitizer"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    step "build threads" build_tsan && thread_tests
fi
if ((ok)) && part fuzz; then
    heading "fuzzing"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    # With --long by chance; otherwise the same each time, so that a failure is the change's.
    step "fuzz" env PFX_FUZZ_SEED=$((long ? 0 : 1)) hsm-test/fuzz/run.sh $((long ? 600 : 20)) && grep -h ' executions' "$out/fuzz.log"
    step "lines of the parsers" hsm-test/fuzz/coverage.sh && tail -n 1 "$out/lines-of-the-parsers.log"
fi
if ((ok)) && part e2e; then
    heading "end to end, sanitizers, on SoftHSM"
    sanitizer_environment
    e2e asan 3 softhsm
    # Every role on NSS, by the release build; those tests whose outcome hangs on the token.
    heading "end to end, release, on NSS"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    about=(--about-keys)
    ((long)) && about=()
    e2e gcc 1 nss "${about[@]}"
fi
if ((ok)) && part coverage; then
    heading "coverage of the product"
    step "coverage" /usr/bin/python3 -B hsm-test/tools/product_coverage.py build/asan &&
        grep -v '^warning' "$out/coverage.log"
fi
if ((ok)) && part systemd; then
    heading "units, booted in systemd-nspawn"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    /usr/bin/python3 -B hsm-test/systemd/boot.py "$root/build/gcc" --results "$results"
fi
if ((ok)) && part quickstart; then
    heading "quick start"
    unset ASAN_OPTIONS UBSAN_OPTIONS
    before=$(daemons)
    step "quick start" deploy/quickstart.sh
    step "the quick start leaves nothing running" nothing_left "$before"
    step "install" env DESTDIR="$out/root" cmake --install build/gcc
fi
if [[ -n $static ]]; then
    heading "static analysis"
    wait "$static"
    cat "$out/static.log"
fi
((leaks)) || say "leaks weren't looked for: this process may not trace (CAP_SYS_PTRACE)"
step "no sanitizer report" sanitizer_reports
heading "result"
/usr/bin/python3 hsm-test/tools/tally.py --sum "$results"
