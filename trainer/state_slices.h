// SPDX-License-Identifier: Apache-2.0
// The state of training as slices of logical tensors: what this rank writes into a checkpoint and where a load puts
// what it reads. Derived from placements and ZeRO shards; names and boxes are global, so that any layout reads what any
// other one wrote.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/parameter.h"
#include "parallel/parameter_shards.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/tensor_slice.h"
#include "trainer/load_targets.h"
#include "trainer/optimizer.h"

namespace farsight {

// A run of elements that is a hyper-rectangle of the logical tensor.
struct FlatBox {
  Shape offset, shape;  // of the logical tensor
  int64_t begin = 0;    // first element within the slice
};
// The elements [begin, end) of a slice, row-major, as boxes in ascending order: at most 2 * rank - 1 of them.
std::vector<FlatBox> flat_boxes(const ParameterSlice& slice, int64_t begin, int64_t end);

// Everything that rank `mesh.world().rank()` has to write: ranks that hold the same share the writing evenly. The
// slices point into the parameters and the optimizer.
std::vector<TensorSlice> state_slices(const ParameterShards& shards, const Optimizer& optimizer);

// Where a load of the checkpoint `manifest` puts weights and optimizer state of this rank. Error{data} naming a tensor
// of the checkpoint that this model or optimizer does not have (one that it lacks is found by the load).
LoadTargets state_targets(const Manifest& manifest, const ParameterShards& shards, const Optimizer& optimizer);

// After the load: the state is where training reads it. Collective in mixed precision, where every rank loads the
// master values of its own shards only; otherwise the values of stages 0 to 2 are loaded whole.
void take_loaded_state(LoadTargets& loaded, ParameterShards& shards);

}  // namespace farsight
