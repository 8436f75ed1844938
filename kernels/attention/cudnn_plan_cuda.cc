// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/cudnn_plan_cuda.h"

namespace farsight::cuda {
namespace {
constexpr int64_t kMostConfigurations = 8;  // two are usual
}

Descriptor described_device(const std::string& json) {
  Descriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  // The terminating zero counts.
  device.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, std::span<const char>(json.c_str(), json.size() + 1));
  device.finalize("cuDNN device properties");
  return device;
}

std::vector<Descriptor> proposed_configurations(const Descriptor& graph, const CudnnTarget& target) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
  if (target.properties != nullptr) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties);
  heuristics.finalize("cuDNN heuristics");
  return heuristics.get_descriptors(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                    kMostConfigurations);
}

Descriptor execution_plan(const Descriptor& configuration, const CudnnTarget& target) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, target.handle);
  if (target.properties != nullptr) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
  plan.finalize("cuDNN plan");
  return plan;
}

Descriptor first_plan(const Descriptor& graph, const CudnnTarget& target) {
  const std::vector<Descriptor> configurations = proposed_configurations(graph, target);
  if (configurations.empty()) throw CudnnError("cuDNN heuristics propose nothing", CUDNN_STATUS_NOT_SUPPORTED);
  for (size_t i = 0;; ++i) {
    try {
      return execution_plan(configurations[i], target);
    } catch (const CudnnError&) {
      if (i + 1 == configurations.size()) throw;
    }
  }
}

}  // namespace farsight::cuda
