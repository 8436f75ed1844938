// SPDX-License-Identifier: Apache-2.0
// Where the pieces of a parameter lie and over which axes its local gradient is only a part of the sum. Reductions, the
// gradient norm, checkpoint writers and the replica check are derived from this declaration and written nowhere else.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/parameter.h"
#include "parallel/mesh.h"

namespace farsight {

// One dimension cut over one axis. Empty sizes: balanced, pieces differ by at most one (the first ones are larger).
struct Shard {
  int dim = 0;
  std::vector<int64_t> sizes;
};

struct Placement {
  std::map<Axis, Shard> shard;  // every axis not named holds a replica
  AxisSet partial;              // axes over which the local gradient is a partial sum
  bool frozen = false;          // no gradient
};

// How an operand of the weight gradient lies on an axis: which of its dimensions that the gradient contracts over
// (batch, token, broadcast head) the axis cuts. Partial over an axis iff it cuts at least one of them.
enum class Cut : uint8_t { batch, token, head, feature, vocabulary };
// Axes that cut a contracted dimension: `cuts` says what each axis cuts, `contracted` what the gradient sums over.
AxisSet partial_axes(const std::multimap<Axis, Cut>& cuts, std::span<const Cut> contracted);

// The placement of every weight of a model whose only axes are data and context: replicated, gradient partial over
// both.
Placement replicated_weight();

// Hyper-rectangle of the global tensor that a rank holds.
struct Slice {
  Shape offset, shape;
  bool operator==(const Slice&) const = default;
};
Slice slice_of(const Shape& global, const Placement& placement, const MeshShape& mesh, int64_t rank);
// The same as a parameter store takes it.
ParameterSlice parameter_slice(const Shape& global, const Placement& placement, const MeshShape& mesh, int64_t rank);

// Axes over which the gradient is summed: the partial ones that have an extent above 1; none when frozen.
AxisSet reduction_axes(const Placement& placement, const MeshShape& mesh);
// Axes on which ranks hold equal copies of the value.
AxisSet replicate_axes(const Placement& placement, const MeshShape& mesh);
// Factor of the local sum of squares in a sum over the world that counts each logical element once.
double norm_weight(const Placement& placement, const MeshShape& mesh);
// This rank writes its slice to checkpoints: coordinate 0 on every replicate axis.
bool writes_checkpoint(const Placement& placement, const MeshShape& mesh, int64_t rank);

}  // namespace farsight
