# shellcheck shell=bash
# Tools written in Go, built from source into the cache under their name and version, and Node.

setup_golangci_lint() { go_tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0; }
setup_gotestsum() { go_tool gotestsum gotest.tools/gotestsum v1.13.0; }

# go_tool NAME PACKAGE VERSION leaves $tools/NAME-VERSION.
go_tool() {
  local name=$1 package=$2 version=$3 work
  step "$name $version"
  if [[ -x $tools/$name-$version ]]; then
    ok "ready"
    return
  fi
  mkdir -p "$tools"
  work=$(mktemp -d "$tools/work.XXXXXX")
  if ! (cd / && GOFLAGS='' GOWORK=off GOBIN="$work" quietly go install "$package@$version"); then
    rm -rf "$work"
    die "cannot build $name" "by hand: GOBIN=\"\$(mktemp -d)\" go install $package@$version"
  fi
  mv -f "$work/$name" "$tools/$name-$version"
  rm -rf "$work"
  ok "built"
}

# setup_node installs Node where the machine has none, and the examples' packages as their lock files say.
setup_node() {
  local dir lock
  [[ -d examples/node ]] || return 0
  if command -v node >/dev/null && command -v npm >/dev/null; then
    step "node"
    ok "ready: $(node --version)"
  else
    debian "node" nodejs npm
  fi
  dir=examples/node lock=examples/node/package-lock.json
  step "packages of $dir"
  if [[ ! -f $lock ]]; then
    ok "none"
  elif [[ $dir/node_modules/.package-lock.json -nt $lock ]]; then
    ok "ready"
  else
    quietly npm ci --prefix "$dir" --no-audit --no-fund || die "npm ci in $dir" "by hand: cd $dir && npm ci"
    touch "$dir/node_modules/.package-lock.json"
    ok "installed"
  fi
}
