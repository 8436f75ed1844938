// SPDX-License-Identifier: Apache-2.0
// How the slabs of a parameter store are cut for reductions: buckets of whole parameters in reverse registration order,
// the order in which backward completes them, and the part of a bucket that a rank of a ZeRO group owns.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/parameter.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace farsight {

struct SlabRange {
  int64_t begin = 0, end = 0;  // elements of the slab
  int64_t count() const { return end - begin; }
};

struct GradientBucket {
  SlabRange range;
  int64_t unit = 0;  // of its parameters, where buckets do not cross units
  std::vector<Parameter*> parameters;
  // Parameters whose gradient is a partial sum over ranks inside the tensor group too, by the axes of that sum.
  std::map<AxisSet, std::vector<SlabRange>> inner;
};

// Buckets of at most `bytes`, but of one parameter at least; gaps between parameters are zero on all ranks. Cut by the
// average size of a parameter's slices, so that all ranks of the world cut alike whatever their own slices are.
// by_unit: no bucket crosses the border of a unit. One placement per parameter.
std::vector<GradientBucket> plan_buckets(ParameterStore& store, std::span<const Placement> placements,
                                         const MeshShape& mesh, int64_t bytes, bool by_unit);

// What rank `index` of `ranks` owns of a range: pieces of equal length, a multiple of 16 elements; the last ones are
// shorter or empty.
SlabRange shard_of(const SlabRange& range, int64_t index, int64_t ranks);
// Lengths of all shards, for reduce_scatter and all_gather; times `unit`.
std::vector<int64_t> shard_counts(const SlabRange& range, int64_t ranks, int64_t unit = 1);

}  // namespace farsight
