#!/usr/bin/env bash
# Runs the demo and a Prometheus that scrapes it, and asks every expression of the dashboards: none may be empty that should not.
# Usage: scripts/dashboards.sh [CONFIGURATION OF UP]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

config=${1:-deploy/demo/sightline.yaml}
work=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
nats=$(free_port) http=$(free_port) prometheus=$(free_port)

cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: ["$root/deploy/prometheus/rules.yaml", "$root/deploy/prometheus/alerts.yaml"]
scrape_configs:
  - job_name: up
    static_configs: [{targets: ["127.0.0.1:$http"]}]
YAML

bin/sightline up --config "$config" --port "$nats" --http "127.0.0.1:$http" --data-dir "$work/data" >"$work/up.log" 2>&1 &
started+=($!)
"$tools/prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="127.0.0.1:$prometheus" \
  --log.level=warn >"$work/prometheus.log" 2>&1 &
started+=($!)

if ! go run ./deploy/grafana/check -prometheus "http://127.0.0.1:$prometheus" -dashboards deploy/grafana -wait "${DASHBOARDS_WAIT:-3m}"; then
  tail -n 5 "$work/up.log" "$work/prometheus.log"
  exit 1
fi
