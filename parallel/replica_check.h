// SPDX-License-Identifier: Apache-2.0
// Copies that must be equal are compared by hash: a missing reduction or a memory fault shows here before it spreads.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "kernels/parameter.h"
#include "parallel/comm.h"
#include "parallel/parameter_shards.h"

namespace farsight {

// A tensor that should be equal on all ranks of a communicator.
struct ReplicaTensor {
  std::string name;
  std::span<const std::byte> bytes;
  Tensor host = {};  // holds the bytes of a tensor that lies on a device
};
// With a copy on the host if it lies elsewhere.
ReplicaTensor replica_tensor(std::string name, const Tensor& values);
// Values (not gradients) of every parameter.
std::vector<ReplicaTensor> replica_tensors(const ParameterStore& store);

// Compares hashes (XXH3-64) over `replicas`. Collective; two numbers travel when all is well. Throws
// Error{diverged} on all ranks, naming the first tensor that differs and the ranks in the minority (both with two).
void check_replicas(Communicator& replicas, std::span<const ReplicaTensor> tensors);

// Every value over all ranks that hold it, as the placements say. Collective over the world; throws on all ranks alike.
void check_replicas(const ParameterShards& shards);

}  // namespace farsight
