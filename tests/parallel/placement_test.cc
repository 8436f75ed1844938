// SPDX-License-Identifier: Apache-2.0
#include "parallel/placement.h"

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "parallel/inproc_comm.h"
#include "parallel/replica_check.h"

namespace farsight {
namespace {

// dW = x^T dy with x, dy [batch, token, feature]: simulates the ranks of each axis cutting one dimension; the local
// products sum to the whole one iff the cut dimension is contracted.
TEST(PartialRule, AgreesWithFiniteSums) {
  constexpr int kBatch = 2, kTokens = 4, kFeatures = 2;
  const auto x = [](int b, int t, int f) { return 1.0 + b * 7 + t * 3 + f * 2; };
  const auto dy = [](int b, int t, int f) { return 2.0 - b + t * 5 - f * 4; };
  const auto product = [&](int b0, int b1, int t0, int t1, int f, int g) {
    double sum = 0.0;
    for (int b = b0; b < b1; ++b) {
      for (int t = t0; t < t1; ++t) sum += x(b, t, f) * dy(b, t, g);
    }
    return sum;
  };
  for (int f = 0; f < kFeatures; ++f) {
    for (int g = 0; g < kFeatures; ++g) {
      const double whole = product(0, kBatch, 0, kTokens, f, g);
      EXPECT_EQ(product(0, 1, 0, kTokens, f, g) + product(1, 2, 0, kTokens, f, g), whole);            // dp cuts batch
      EXPECT_EQ(product(0, kBatch, 0, 1, f, g) + product(0, kBatch, 1, kTokens, f, g), whole);        // ring cuts token
      EXPECT_NE(product(0, kBatch, 0, kTokens, f, g) + product(0, kBatch, 0, kTokens, f, g), whole);  // tp cuts neither
    }
  }
  const std::multimap<Axis, Cut> cuts{{Axis::dp, Cut::batch}, {Axis::ring, Cut::token}, {Axis::tp, Cut::feature}};
  const Cut contracted[] = {Cut::batch, Cut::token};
  EXPECT_EQ(partial_axes(cuts, contracted), (AxisSet{Axis::dp, Axis::ring}));
  // A weight broadcast over heads (qk-norm) is partial over the axis that cuts heads.
  const std::multimap<Axis, Cut> heads{{Axis::dp, Cut::batch}, {Axis::tp, Cut::head}};
  const Cut over_heads[] = {Cut::batch, Cut::token, Cut::head};
  EXPECT_EQ(partial_axes(heads, over_heads), (AxisSet{Axis::dp, Axis::tp}));
}

TEST(Placement, ReplicatedWeightsReduceOverDataAndContext) {
  const Placement p = replicated_weight();
  EXPECT_EQ(reduction_axes(p, MeshShape(1, 2, 2, 1, 1)), (AxisSet{Axis::dp, Axis::ring}));
  EXPECT_EQ(reduction_axes(p, MeshShape(1, 1, 2, 1, 4)), (AxisSet{Axis::ring}));
  EXPECT_TRUE(reduction_axes(p, MeshShape(1, 1, 1, 1, 1)).empty());
  Placement frozen = p;
  frozen.frozen = true;
  EXPECT_TRUE(reduction_axes(frozen, MeshShape(1, 2, 2, 1, 1)).empty());
}

// Each logical element counts once: over all ranks, (elements of the slice) x (norm weight) sums to the global size.
TEST(Placement, NormWeightsCountEveryElementOnce) {
  Placement columns = replicated_weight();
  columns.shard[Axis::tp] = {1, {}};
  Placement uneven = replicated_weight();
  uneven.shard[Axis::tp] = {0, {5, 1, 4, 0}};
  const Shape global{10, 7};
  for (const Placement& placement : {replicated_weight(), columns, uneven}) {
    const MeshShape mesh(2, 3, 2, 1, 4);
    double elements = 0.0;
    for (int64_t rank = 0; rank < mesh.world(); ++rank) {
      const Slice s = slice_of(global, placement, mesh, rank);
      elements += static_cast<double>(s.shape[0] * s.shape[1]) * norm_weight(placement, mesh);
    }
    EXPECT_NEAR(elements, 70.0, 1e-12);
  }
}

TEST(Placement, WritersHoldEverySliceExactlyOnce) {
  Placement rows = replicated_weight();
  rows.shard[Axis::tp] = {0, {}};
  rows.shard[Axis::pp] = {1, {}};
  const MeshShape mesh(2, 2, 3, 1, 3);
  std::vector<int> written(10 * 7, 0);
  for (int64_t rank = 0; rank < mesh.world(); ++rank) {
    if (!writes_checkpoint(rows, mesh, rank)) continue;
    const Slice s = slice_of({10, 7}, rows, mesh, rank);
    for (int64_t i = s.offset[0]; i < s.offset[0] + s.shape[0]; ++i) {
      for (int64_t j = s.offset[1]; j < s.offset[1] + s.shape[1]; ++j) ++written[static_cast<size_t>(i * 7 + j)];
    }
  }
  EXPECT_EQ(written, std::vector<int>(70, 1));
  EXPECT_EQ(slice_of({10, 7}, rows, mesh, 0), (Slice{{0, 0}, {4, 4}}));  // 10 = 4 + 3 + 3, 7 = 4 + 3
}

TEST(Placement, SizesThatDoNotCoverAreRefused) {
  Placement p;
  p.shard[Axis::tp] = {0, {5, 4}};
  EXPECT_THROW(slice_of({10, 7}, p, MeshShape(1, 1, 1, 1, 2), 0), Error);
  p.shard[Axis::tp] = {2, {}};
  EXPECT_THROW(slice_of({10, 7}, p, MeshShape(1, 1, 1, 1, 2), 0), Error);
}

// T8: a reduction that one rank leaves out must not survive the replica check.
TEST(ReplicaCheck, FindsAMissingReduction) {
  run_in_process(3, [](Communicator& world) {
    ParameterStore store;
    store.add("layers.0.norm", {4}, {Init::Kind::normal, 1.0});
    store.add("layers.0.weight", {4, 4}, {Init::Kind::normal, 1.0});
    store.allocate();
    store.initialize(1);
    check_replicas(world, replica_tensors(store));
    Parameter& p = *store.find("layers.0.weight");
    p.grad.data<float>()[5] = static_cast<float>(world.rank() + 1);
    if (world.rank() != 1) p.grad.data<float>()[5] = 6.0F;  // rank 1 keeps its local gradient
    p.value.data<float>()[5] -= 0.1F * p.grad.data<float>()[5];
    try {
      check_replicas(world, replica_tensors(store));
      ADD_FAILURE() << "diverged replicas passed";
    } catch (const Error& e) {
      const std::string text = e.what();
      EXPECT_EQ(e.kind(), ErrorKind::diverged);
      EXPECT_NE(text.find("'layers.0.weight' on axis world: rank 1 (hash"), std::string::npos) << text;
    }
  });
}

}  // namespace
}  // namespace farsight
