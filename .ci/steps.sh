# What .ci/run and .ci/nightly share; sourced by both from the root of the checkout.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export scratch PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

say() { printf '\n=== %s (%s s)\n' "$1" "$SECONDS"; }

fresh_environment() {
    say "a fresh virtual environment"
    python3 -m venv "$scratch/venv"
    . "$scratch/venv/bin/activate"
    rm -rf runs
}

# smoke NAME FLAG...: one smoke run, its log printed only if it fails.
smoke() {
    name=$1; shift
    python -m sft_keras.run --smoke --run_dir="$scratch/smoke/$name" "$@" \
        > "$scratch/$name.log" 2>&1 || { cat "$scratch/$name.log"; exit 255; }
    grep -q 'Smoke run' "$scratch/smoke/$name/report.html" || exit 255
    echo "$name: ok"
}
export -f smoke

# Two at a time: most of a smoke run is Python on one core. Reads "NAME FLAG..." lines.
smoke_all() { xargs -P 2 -L 1 bash -c 'smoke "$@"' _; }
