// SPDX-License-Identifier: Apache-2.0
// Memory that this process may still take on this machine.
#pragma once

#include <cstdint>

namespace farsight {

// Bytes: what the system calls available, or what the control group leaves, whichever is less; 0 when neither is known.
int64_t available_host_memory();

}  // namespace farsight
