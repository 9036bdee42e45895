#!/usr/bin/env bash
# The unit tests that need a real Docker, on a host of a lab of their own: they look at its processes and its disk.
set -euo pipefail
cd "$(dirname "$0")/../.."
export FTLAB_NAME=ftunit
lab=./bin/ftlab
trap '$lab down' EXIT
$lab up --no-agents
$lab exec alpha -- env -C "$PWD" \
  FTCTL_TEST_DOCKER="$($lab socket alpha)" FTCTL_TEST_DOCKER_2="$($lab socket beta)" \
  node_modules/.bin/vitest run "$@"
