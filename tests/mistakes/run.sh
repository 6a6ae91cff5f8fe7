#!/usr/bin/env bash
# Plants the mistakes of this directory, one at a time, and lets the simulator find each.
# See tests/mistakes/run.sh --help.

set -uo pipefail

usage() {
    cat <<'END'
Usage: tests/mistakes/run.sh [--only NAME] [--jobs COUNT] [--seeds COUNT]

Every tests/mistakes/*.patch is a mistake that others have made with Paxos. Each is planted alone in a
copy of this tree, which is built and lives cluster lives from seed 1 on, until one fails. That same
life must be without a failure in the tree as it is. Prints, for each mistake, the profile of faults,
the first seed that finds it, how long that took without the build, and what was found.

  --only NAME    this one: its file's name without .patch, or the beginning of it
  --jobs COUNT   lives and compilers at a time [as many as there are processors]
  --seeds COUNT  after so many lives a mistake counts as not found [10000]
  -h, --help     this text

The first lines of a patch say `pitfall:`, `profile:` and `breaks:`.

Environment:
  CARGO_TARGET_DIR  what is built goes below mistakes/ in it [target]

Exit status: 0 if all were found; 1 if a patch does not apply, does not build or is not found, or if the
tree fails by itself; 2 for a wrong command line.
END
}

# More than ten thousand lives take. A life that never ends counts as not found.
readonly RUN_SECONDS=1800

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
root=$(cd "$here/../.." && pwd) || exit 1
only=
jobs=$(nproc)
seeds=10000

wrong() {
    printf 'run.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

while (($# > 0)); do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --only | --jobs | --seeds)
        (($# > 1)) || wrong "$1 needs a value"
        declare "${1#--}=$2"
        shift
        ;;
    *) wrong "unexpected $1" ;;
    esac
    shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || wrong "--jobs: expected a count, found '$jobs'"
[[ $seeds =~ ^[1-9][0-9]*$ ]] || wrong "--seeds: expected a count, found '$seeds'"
only=${only%.patch}

shopt -s nullglob
patches=("$here/$only"*.patch)
((${#patches[@]} > 0)) || wrong "no patch is called '$only'"

work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
readonly tree=$work/tree
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target
export CARGO_TARGET_DIR=$target/mistakes
# One place in the tree changes between two builds.
export CARGO_INCREMENTAL=1

# A fresh copy, as new as now, so that the build sees every file that a patch before it had changed.
copy_tree() {
    rm -rf -- "$tree" && mkdir -- "$tree" &&
        (cd "$root" && tar -cf - Cargo.toml Cargo.lock fruits.csv src) | tar -xmf - -C "$tree"
}

# Builds the copy as $1. What the compiler says is kept for the case that it fails.
build() {
    (cd "$tree" && cargo build --release --locked --quiet --jobs "$jobs" --bin quince) >"$work/build" 2>&1 &&
        cp -- "$CARGO_TARGET_DIR/release/quince" "$1"
}

# The value of a head line of a patch.
head_of() {
    sed -n "s/^$2: //p;/^--- /q" "$1" | head -n 1
}

row() {
    printf '%-26s %-10s %6s %8s  %s\n' "$@"
}

# Plants one mistake and looks for it; says why not on failure.
plant() {
    local patch=$1 name profile failure seed began seconds
    name=$(basename "$patch" .patch)
    profile=$(head_of "$patch" profile)
    if [[ -z $profile || -z $(head_of "$patch" pitfall) || -z $(head_of "$patch" breaks) ]]; then
        row "$name" "${profile:--}" - - "ITS HEAD is not whole: pitfall, profile and breaks"
        return 1
    fi
    if ! copy_tree || ! patch -d "$tree" -p1 --fuzz=3 --force --no-backup-if-mismatch <"$patch" >"$work/patch" 2>&1; then
        row "$name" "$profile" - - "DOES NOT APPLY"
        cat -- "$work/patch" >&2
        return 1
    fi
    if ! build "$work/mistaken"; then
        row "$name" "$profile" - - "DOES NOT BUILD"
        cat -- "$work/build" >&2
        return 1
    fi
    began=$EPOCHREALTIME
    timeout "$RUN_SECONDS" "$work/mistaken" simulate --seeds "1..$seeds" --profile "$profile" --jobs "$jobs" \
        >"$work/run" 2>&1
    seconds=$(awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }')
    failure=$(grep -m 1 -E '^quince: seed [0-9]+ failed at ' "$work/run")
    if [[ -z $failure ]]; then
        row "$name" "$profile" - "$seconds" "NOT FOUND in $seeds lives"
        tail -n 5 -- "$work/run" >&2
        return 1
    fi
    [[ $failure =~ seed\ ([0-9]+)\ failed\ at\ step\ [0-9]+,\ [0-9]+\ ms:\ (.*) ]]
    seed=${BASH_REMATCH[1]}
    failure=${BASH_REMATCH[2]}
    if ! "$work/sound" simulate --seed "$seed" --profile "$profile" >/dev/null 2>"$work/run"; then
        row "$name" "$profile" "$seed" "$seconds" "THE TREE FAILS BY ITSELF"
        head -n 1 -- "$work/run" >&2
        return 1
    fi
    row "$name" "$profile" "$seed" "$seconds" "${failure:0:110}"
}

copy_tree || exit 1
if ! build "$work/sound"; then
    cat -- "$work/build" >&2
    exit 1
fi
row mistake profile seed seconds "what was found"
failed=0
for patch in "${patches[@]}"; do
    plant "$patch" || failed=$((failed + 1))
done
if ((failed > 0)); then
    printf '%d of %d mistakes were not found\n' "$failed" "${#patches[@]}" >&2
    exit 1
fi
