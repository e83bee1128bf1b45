#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A healthy storm is never said to have lost anything: a short one. The long one
# is `make storm`.
cd "$(dirname "$0")/../.." && exec tests/storm/run "${SCHEDULES:-8000000}"
