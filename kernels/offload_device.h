// SPDX-License-Identifier: Apache-2.0
// Activations of a CUDA device in pinned host memory. Internal to kernels/offload.
//
//   compute stream   .. layer 1 .. layer 2 .. layer 3 ..      .. layer 3' .. layer 2' .. layer 1' ..
//   copy stream            out 1 .... out 2 .... out 3          in 2 ...... in 1
//
// The memory of a value is given back once the compute stream has waited for its copy, which happens kOffloadAhead
// values later; a value returns while the operations of those above it run. No host wait in the steady state.
#pragma once

#include <memory>

#include "kernels/cuda/device.h"
#include "kernels/offload.h"

namespace farsight {

std::unique_ptr<ActivationOffload> make_device_offload(CudaDevice& device);

}  // namespace farsight
