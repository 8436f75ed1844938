#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every shell script of the tree is clean under shellcheck. Skipped where it is not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v shellcheck >/dev/null || { echo "SKIP: shellcheck is not installed (launch/deps --tests)" && exit 77; }
mapfile -t scripts < <(grep -rlIE '^(#!.*\b(bash|sh)|# shellcheck shell=bash)$' launch tests .ci | sort)
shellcheck "${scripts[@]}"
echo "${#scripts[@]} scripts are clean"
