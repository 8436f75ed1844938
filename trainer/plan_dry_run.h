// SPDX-License-Identifier: Apache-2.0
// A run of any number of ranks without a rank: what every one of them would hold, from the placements of the model, and
// whether it all fits together. Nothing is allocated; 1,024 ranks take about a second.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/placement.h"
#include "trainer/config.h"

namespace farsight {

struct PlacedTensor {
  std::string name;
  Shape shape;  // of the whole tensor
  Placement placement;
};

struct DryRun {
  int64_t ranks = 0, tensors = 0, slices = 0;
  std::vector<std::string> problems;  // empty: every rank fits its neighbours
};

// Checks for every rank of the layout
//   the slices of each tensor: inside it, no two overlap, each element as often as the placement says
//   gradients are summed over all ranks that see other tokens
//   heads of queries and keys: slices of the projections are the heads that the rank computes with
//   ZeRO shards: ranges of the buckets, in order, without gaps
//   the sequence: every position on one context rank
DryRun dry_run(const Config& config, const RunLayout& layout, int64_t vocab);

// The part about slices, for any tensors: problems, one line per tensor.
std::vector<std::string> check_placements(const std::vector<PlacedTensor>& tensors, const MeshShape& mesh);
// Every parameter of the model with its placement.
std::vector<PlacedTensor> placed_tensors(const Config& config, const RunLayout& layout, int64_t vocab);
// Rows of the query and key projections against the heads of each tensor rank.
std::vector<std::string> check_heads(const std::vector<PlacedTensor>& tensors, const Config& config,
                                     const MeshShape& mesh);

}  // namespace farsight
