// SPDX-License-Identifier: Apache-2.0
// The key parallel.override: a list of tables, one per range of layers.
#pragma once

#include "trainer/config_registry.h"

namespace farsight {

ConfigKey context_override_key();

}  // namespace farsight
