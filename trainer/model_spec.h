// SPDX-License-Identifier: Apache-2.0
// From the configuration, and what the dataset says, to the model that is built.
#pragma once

#include "trainer/config.h"
#include "trainer/model.h"

namespace farsight {

// vocab: ids of the dataset's tokeniser. Error{data} (65) naming both numbers if model.vocab is set and smaller.
ModelSpec model_spec(const Config& config, int64_t vocab);

// Slope of head h (0-based) of H: 2^(-8 (h + 1) / H). Source: Press et al. 2022 (arXiv:2108.12409).
std::vector<float> alibi_slopes(int64_t heads);

}  // namespace farsight
