#!/usr/bin/env bash
# Installs what tests/redis_clients.rs and tests/redis_words.rs run: redis-tools and redis-server with apt-get, the
# others below target/clients, each at the version that the tests were written for. Run from anywhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
place="$PWD/target/clients"

packages=()
needs() { packages+=("$@"); }
command -v redis-benchmark >/dev/null || needs redis-tools
command -v redis-server >/dev/null || needs redis-server
python3 -c 'import ensurepip, venv' 2>/dev/null || needs python3 python3-venv
command -v npm >/dev/null || needs nodejs npm
if ((${#packages[@]})); then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

[[ -x "$place/venv/bin/python" ]] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0

modules=(redis@6.3.1 ioredis@6.0.0)
# Both want Node.js 20, and Debian 12 has 18.
if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
    modules+=(node@22)
fi
npm install --silent --no-audit --no-fund --no-save --no-package-lock --prefix "$place" "${modules[@]}"
