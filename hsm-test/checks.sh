#!/usr/bin/env bash
# Checks of the sources and of the built programs that no compiler makes.
#
#   hsm-test/checks.sh BUILD-FOLDER [RESULTS-FILE]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
build=${1:?"usage: checks.sh BUILD-FOLDER [RESULTS-FILE]"}
results=${2:-/dev/null}
failed=0

# check NAME: passes when standard input is empty; what is there says what is wrong.
check() {
    local found
    found=$(cat)
    if [[ -z $found ]]; then
        printf 'ok    %s\n' "$1"
        printf 'passed\tcheck: %s\t\n' "$1" >>"$results"
    else
        printf 'FAIL  %s\n%s\n' "$1" "$found"
        printf 'failed\tcheck: %s\t\n' "$1" >>"$results"
        failed=1
    fi
}

product=(crypto pkcs11 api agent)
c_files() { find "$@" \( -name '*.c' -o -name '*.h' \) -print0; }
# Includes of one folder that point to where they may not. Tests and generated files aren't asked.
includes() {
    local from=$1 pattern=$2
    c_files "$from" | xargs -0 -r grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]+\"($pattern)" || true
}
program() { find "$build" -type f -name "$1" -perm -u+x -not -path '*/CMakeFiles/*' | head -n 1; }
needs() { # libraries that a program loads, wherever they come from
    local path
    path=$(program "$1")
    if [[ -z $path ]]; then
        echo "$1 isn't built"
        return
    fi
    ldd "$path" | grep -E "$2"
}

banned='strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|system|popen|mktemp|tmpnam|cJSON_GetObjectItem'
c_files "${product[@]}" hsm-test |
    xargs -0 grep -nE "(^|[^A-Za-z0-9_])($banned)[[:space:]]*\(" | check "no banned function"

includes crypto 'pkcs11/|api/|agent/' | check "crypto/ includes only crypto/"
includes pkcs11 'agent/|api/uploader/' | check "pkcs11/ includes crypto/, api/wire and api/conf"
includes api 'pkcs11/|agent/' | check "api/ includes crypto/ and api/"
includes agent 'pkcs11/|api/uploader/' | check "agent/ includes neither pkcs11/ nor the uploader"
includes agent/cli 'agent/[^c]|agent/c[^l]' | check "the command line includes nothing of pfx-agentd"
includes agent/audit 'api/|agent/[^a]|agent/a[^u]' |
    check "pfx-audit includes crypto/ and nothing else"

c_files crypto api agent | xargs -0 grep -nE '(->|[.])C_[A-Z][A-Za-z]+[[:space:]]*\(|pkcs11\.h' |
    check "only pkcs11/ calls Cryptoki"

needs pfx-hsm 'libcurl' | check "pfx-hsm doesn't link libcurl"
needs pfx-agentd 'libcurl|libp11|libp11-kit|softhsm|softokn' |
    check "pfx-agentd links neither libcurl nor PKCS#11"
needs pfx-uploader 'libp11\.|softhsm|softokn|sqlite' |
    check "pfx-uploader links neither PKCS#11 nor the store"
needs pfx-agent 'libp11|libcurl|sqlite|softhsm|softokn' |
    check "pfx-agent links neither PKCS#11, libcurl nor the store"
needs pfx-audit 'libp11|libcurl|sqlite|softhsm|softokn|libcjson|libyaml|libicu' |
    check "pfx-audit links libcrypto only"

# For every library in them, as their own symbols come first.
for name in pfx-uploader pfx-hsm; do
    for function in free realloc reallocarray malloc calloc; do
        nm -D --defined-only "$(program "$name")" | grep -qE " T $function\$" ||
            echo "$name doesn't export $function (crypto/wipe.c)"
    done
done | check "pfx-uploader and pfx-hsm wipe what they free"

# The programs' own code opens no library and no socket that isn't theirs.
for name in pfx-agentd pfx-uploader pfx-agent pfx-audit; do
    path=$(program "$name")
    if [[ -n $path ]]; then
        nm -D --undefined-only "$path" | grep -E ' U (dlopen|dlmopen)(@|$)'
    fi
done | check "only pfx-hsm loads modules"

for name in pfx-agentd pfx-hsm pfx-uploader pfx-agent pfx-audit; do
    path=$(program "$name")
    [[ -n $path ]] || continue
    facts=$(readelf -hdlsW "$path")
    [[ $facts == *"DYN (Position-Independent"* ]] || echo "$name: no PIE"
    [[ $facts == *NOW* ]] || echo "$name: symbols bound late"
    [[ $facts == *GNU_RELRO* ]] || echo "$name: no RELRO"
    [[ $facts =~ GNU_STACK[^$'\n']*RWE ]] && echo "$name: executable stack"
    [[ $facts == *__stack_chk_fail* ]] || echo "$name: no stack protector"
    [[ $facts == *_chk@* ]] || echo "$name: not fortified"
done | check "programs are hardened"

for kind in agent uploader hsm-policy; do
    "$(program pfx-agent)" config example "$kind" 2>&1 | diff - "deploy/examples/$kind.yaml" |
        sed "s/^/$kind.yaml: /"
done | check "examples in deploy/ are those of the programs"

/usr/bin/python3 hsm-test/tools/golden.py --readme 2>&1 |
    check "README's table of tokens is that of hsm-test/golden"

/usr/bin/python3 - <<'PY' 2>&1 | check "tests that SECURITY.md names in its sentences exist"
import pathlib, re
text = pathlib.Path("SECURITY.md").read_text(encoding="utf-8")
tests = "".join(p.read_text(encoding="utf-8") for p in pathlib.Path("hsm-test").rglob("*.py"))
names = re.findall(r"(?<!\*)\*((?:[A-Z]\w+|test_\w+)(?:\.test_\w+)?)\*(?!\*)", text)
if len(names) < 20:
    print("only %d names found: this check is blind" % len(names))
for part in (p for name in names for p in name.split(".")):
    kind = "def" if part.startswith("test_") else "class"
    if not re.search(r"\b%s %s" % (kind, re.escape(part)), tests):
        print("%s %s" % (kind, part))
PY

if command -v shellcheck >/dev/null; then
    shellcheck deploy/*.sh hsm-test/*.sh .ci/run 2>&1 | check "shell scripts by shellcheck"
fi
/usr/bin/python3 - <<'PY' 2>&1 | check "Python files compile"
import ast, pathlib
for path in pathlib.Path("hsm-test").rglob("*.py"):
    if "node_modules" not in path.parts:
        try:
            ast.parse(path.read_text(encoding="utf-8"), str(path))
        except SyntaxError as error:
            print(error)
PY
# shellcheck disable=SC2016 # awk's own
c_files "${product[@]}" hsm-test | xargs -0 awk \
    'length($0) > 120 && $0 !~ /[^\x00-\x7f]/ {print FILENAME ":" FNR ": " length($0) " columns"}' |
    check "no line past 120 columns"
c_files "${product[@]}" | xargs -0 awk '
    FNR == 1 && name != "" && last > 600 {print name ": " last " lines"}
    {name = FILENAME; last = FNR}' | check "files of at most 600 lines"
exit $failed
