/* SPDX-License-Identifier: MIT */
#include "protocol.h"

enum bh_fault bh_fault = BH_FAULT_NONE;
