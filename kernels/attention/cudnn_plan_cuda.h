// SPDX-License-Identifier: Apache-2.0
// From an operation graph to something that runs: the library proposes engine configurations for a device, the first
// that finalises is the plan. The device is the one of a handle, or, where there is none, a description: then
// everything up to loading the kernel is checked.
#pragma once

#include <string>
#include <vector>

#include "kernels/attention/cudnn_descriptor_cuda.h"

namespace farsight::cuda {

// Exactly one of the two.
struct CudnnTarget {
  cudnnHandle_t handle = nullptr;
  const Descriptor* properties = nullptr;
};

// A device described by the library's JSON (cuDNN 9.8 or later; all keys are required).
Descriptor described_device(const std::string& json);

// The configurations that the library's heuristics propose for the graph, best first; none: it has no engine for it.
std::vector<Descriptor> proposed_configurations(const Descriptor& graph, const CudnnTarget& target);

// Throws CudnnError where the configuration cannot run.
Descriptor execution_plan(const Descriptor& configuration, const CudnnTarget& target);

// The first proposal that finalises; CudnnError of the last one when none does. The heuristics' order is taken on
// trust: on a device the proposals could be timed once and the faster one kept.
Descriptor first_plan(const Descriptor& graph, const CudnnTarget& target);

}  // namespace farsight::cuda
