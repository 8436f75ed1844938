// SPDX-License-Identifier: Apache-2.0
// Weights that are shared out over ranks, brought together again.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/parameter_shards.h"
#include "trainer/model.h"

namespace farsight {

// The model with all weights, fp32 in host memory (HostScope), on rank 0 of the world, null on the others; null
// everywhere when every rank has all weights anyway. Collective over the world. Costs rank 0 the memory of the model.
std::unique_ptr<LanguageModel> collect_model(const LanguageModel& model, const ParameterShards& shards);

// Logical tensors by name on rank 0, empty on the others: values (`gradients` false) or reduced gradients. Collective.
// For comparisons of layouts; costs rank 0 the memory of the whole model.
std::map<std::string, std::vector<float>> collect_tensors(const ParameterShards& shards, bool gradients);

}  // namespace farsight
