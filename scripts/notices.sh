#!/usr/bin/env bash
# Writes the table of directly required Go modules and their licences into THIRD_PARTY_NOTICES.md, between its markers.
# Usage: scripts/notices.sh [check]; check writes nothing and fails when the table is not what it would write.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

file=THIRD_PARTY_NOTICES.md
begin='<!-- begin: written by scripts/notices.sh -->'
end='<!-- end -->'

# required prints the direct requirements of every module, without our own.
required() {
  modules | while IFS= read -r dir; do
    sed -n -E '/\/\/ indirect/d; s/^(require )?[[:space:]]*([^[:space:]()]+\.[^[:space:]]+) v[0-9][^[:space:]]*.*$/\2/p' "$dir/go.mod"
  done | grep -v '^github.com/sightline-dev/sightline' | sort -u
}

# licence FILE names the licences whose words the file uses.
licence() {
  local text names=()
  text=$(tr -s '[:space:]' ' ' <"$1")
  [[ $text != *"Apache License"*"Version 2.0"* ]] || names+=(Apache-2.0)
  [[ $text != *"Mozilla Public License"* ]] || names+=(MPL-2.0)
  [[ $text != *"Permission is hereby granted, free of charge"* ]] || names+=(MIT)
  [[ $text != *"Permission to use, copy, modify, and"*"distribute this software"* ]] || names+=(ISC)
  case $text in
  *"Redistribution and use in source and binary forms"*"either the name"*) names+=(BSD-3-Clause) ;;
  *"Redistribution and use in source and binary forms"*) names+=(BSD-2-Clause) ;;
  esac
  ((${#names[@]})) || return 1
  printf '%s' "${names[0]}"
  printf ' and %s' "${names[@]:1}" | sed 's/ and $//'
}

table() {
  local module dir candidate name
  printf '| module | licence |\n|---|---|\n'
  while IFS= read -r module; do
    dir=$(go list -m -f '{{.Dir}}' "$module")
    # In workspace mode go knows where a module would be; it is there only once it was downloaded.
    [[ -d $dir ]] || { go mod download "$module" && dir=$(go list -m -f '{{.Dir}}' "$module"); }
    name=
    for candidate in "$dir"/LICENSE* "$dir"/LICENCE* "$dir"/COPYING* "$dir"/License*; do
      if [[ -f $candidate ]] && name=$(licence "$candidate"); then break; fi
    done
    [[ -n $name ]] || die "$module: no licence that scripts/notices.sh knows in $dir"
    printf '| %s | %s |\n' "$module" "$name"
  done < <(required)
}

new=$(table)
old=$(awk -v begin="$begin" -v end="$end" '$0 == end { on = 0 } on; $0 == begin { on = 1 }' "$file")
if [[ $new == "$old" ]]; then exit 0; fi
if [[ ${1-} == check ]]; then
  diff <(echo "$old") <(echo "$new") || true
  die "the table in $file is out of date" "run: make tidy"
fi
awk -v begin="$begin" -v end="$end" -v table="$new" \
  '$0 == end { on = 0 } !on; $0 == begin { on = 1; print table }' "$file" >"$file.part"
mv "$file.part" "$file"
echo "wrote $file"
