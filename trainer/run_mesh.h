// SPDX-License-Identifier: Apache-2.0
// From a resolved layout to what the parallel layer takes: grid, order of the sequence, where the model lies.
#pragma once

#include <cstdint>

#include "parallel/mesh.h"
#include "parallel/sequence_order.h"
#include "trainer/config.h"
#include "trainer/model_placement.h"

namespace farsight {

ParallelOptions mesh_options(const RunLayout& layout);
// Positions of a sample over the context ranks (ring x ulysses).
SequenceLayout sequence_layout(const Config& config, const RunLayout& layout);
ModelSharding model_sharding(const Config& config, const MeshShape& mesh, int64_t rank);

}  // namespace farsight
