// SPDX-License-Identifier: Apache-2.0
#include "parallel/gradients.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/tape.h"
#include "parallel/inproc_comm.h"

namespace farsight {
namespace {

// Parameters of uneven sizes; number 3 is never used.
void register_parameters(ParameterStore& store) {
  for (int i = 0; i < 8; ++i) {
    store.add(fmt::format("p{}", i), {1 + i * 37 % 50, 3}, {Init::Kind::normal, 1.0}, /*adjoin=*/i == 5);
  }
  store.allocate();
  store.initialize(3);
}

float contribution(int rank, int64_t parameter, int64_t element) {
  return std::sin(static_cast<float>(rank * 131 + parameter * 17 + element)) * 10.0F;
}

// y = x, with a backward that writes known numbers into the gradient of one parameter.
Var touch(Tape& tape, const Var& x, Parameter& p, int rank, int64_t index) {
  Var out = tape.variable(x.value().clone(), {x}, /*uses_parameters=*/true);
  tape.record(out, {&p}, [x, out, &p, rank, index] {
    const float beta = p.begin_accumulate();
    for (int64_t i = 0; i < p.grad.numel(); ++i) {
      float& g = p.grad.data<float>()[i];
      g = contribution(rank, index, i) + (beta == 0.0F ? 0.0F : g);
    }
    if (x.requires_grad()) {
      const Gradient dx = x.begin_gradient();
      *dx.tensor.data<float>() = *out.grad().data<float>();
    }
  });
  return out;
}

void run_backward(ParameterStore& store, GradientReducer* reducer, int rank) {
  Tape tape;
  if (reducer != nullptr) tape.on_gradient_ready(reducer->handler());
  Var x = tape.input(Tensor::zeros({1}));
  int64_t index = 0;
  for (Parameter& p : store.parameters()) {
    if (index != 3) x = touch(tape, x, p, rank, index);
    ++index;
  }
  tape.backward(x);
}

std::vector<float> expected_slab(int ranks, int passes) {
  ParameterStore store;
  register_parameters(store);
  int64_t index = 0;
  for (Parameter& p : store.parameters()) {
    for (int64_t i = 0; i < p.grad.numel() && index != 3; ++i) {
      float sum = 0.0F;
      for (int r = 0; r < ranks; ++r) {
        float own = 0.0F;
        for (int pass = 0; pass < passes; ++pass) own = contribution(r, index, i) + own;
        sum = r == 0 ? own : sum + own;
      }
      p.grad.data<float>()[i] = sum;
    }
    ++index;
  }
  const auto slab = store.gradients().span<float>();
  return {slab.begin(), slab.end()};
}

// The slab after a step of two micro-batches, and what the reducer reported.
ReductionStats step(Communicator& world, int64_t bucket_bytes, std::vector<float>& slab) {
  ParameterStore store;
  register_parameters(store);
  GradientReducer reducer(store, world, bucket_bytes);
  store.begin_gradients();
  run_backward(store, &reducer, world.rank());  // not armed: accumulates only
  reducer.begin();
  run_backward(store, &reducer, world.rank());
  const ReductionStats stats = reducer.finish();
  const auto s = store.gradients().span<float>();
  slab.assign(s.begin(), s.end());
  EXPECT_EQ(stats.buckets, reducer.bucket_count());
  return stats;
}

TEST(GradientReducer, SumsOverTheRanksForEveryBucketSizeBitForBit) {
  for (const int ranks : {1, 2, 3, 4}) {
    const auto expected = expected_slab(ranks, /*passes=*/2);
    for (const int64_t bucket : {4, 100, 400, 1000, 1 << 20}) {
      std::vector<std::vector<float>> slabs(static_cast<size_t>(ranks));
      run_in_process(ranks, [&](Communicator& world) {
        const ReductionStats stats = step(world, bucket, slabs[static_cast<size_t>(world.rank())]);
        EXPECT_EQ(stats.buckets == 1, bucket == 1 << 20);
      });
      for (const auto& slab : slabs) {
        ASSERT_EQ(slab.size(), expected.size());
        EXPECT_EQ(std::memcmp(slab.data(), expected.data(), slab.size() * sizeof(float)), 0)
            << ranks << " ranks, buckets of " << bucket << " bytes";
      }
    }
  }
}

// Parameters 7..4 become ready, 3 never does: the buckets behind it wait for finish().
TEST(GradientReducer, StartsBucketsDuringBackwardInOneOrder) {
  run_in_process(2, [](Communicator& world) {
    std::vector<float> slab;
    const ReductionStats stats = step(world, 4, slab);
    EXPECT_EQ(stats.buckets, 8);
    EXPECT_EQ(stats.overlapped, 4);
    EXPECT_GE(stats.exposed_ms, 0.0);
  });
}

TEST(GradientReducer, BucketsCoverTheSlabOnce) {
  ParameterStore store;
  register_parameters(store);
  auto self = make_self_communicator();
  EXPECT_EQ(GradientReducer(store, *self, 4).bucket_count(), 8);
  EXPECT_EQ(GradientReducer(store, *self, 1 << 30).bucket_count(), 1);
}

TEST(GradientReducer, MisuseIsReported) {
  ParameterStore store;
  register_parameters(store);
  auto self = make_self_communicator();
  GradientReducer reducer(store, *self);
  EXPECT_THROW(reducer.finish(), Error);
  reducer.ready(store.parameters().front());  // not armed: ignored
  reducer.begin();
  EXPECT_THROW(reducer.begin(), Error);
  reducer.ready(store.parameters().front());
  EXPECT_THROW(reducer.ready(store.parameters().front()), Error);
  ParameterStore unallocated;
  EXPECT_THROW(GradientReducer(unallocated, *self), Error);
}

TEST(GradientNorm, CountsReplicatedParametersOnce) {
  run_in_process(4, [](Communicator& world) {
    ParallelOptions options;
    options.ring = 2;
    Mesh mesh(world, options);
    ParameterStore store;
    register_parameters(store);
    double expected = 0.0;
    float value = 0.25F;
    for (Parameter& p : store.parameters()) {
      value += 0.5F;
      for (float& g : p.grad.span<float>()) {
        g = value;
        expected += static_cast<double>(g) * static_cast<double>(g);
      }
    }
    EXPECT_NEAR(gradient_norm(store, mesh), std::sqrt(expected), 1e-12 * std::sqrt(expected));
    const std::vector<Placement> replicated(store.parameters().size(), replicated_weight());
    EXPECT_EQ(gradient_norm(store, mesh, replicated), gradient_norm(store, mesh));
    // A parameter sharded over data: each rank's slice counts whole, replicas over the ring once.
    std::vector<Placement> sharded = replicated;
    for (Placement& p : sharded) p.shard[Axis::dp] = {0, {}};
    EXPECT_NEAR(gradient_norm(store, mesh, sharded), std::sqrt(2.0 * expected), 1e-9);
    EXPECT_THROW(gradient_norm(store, mesh, std::span(sharded).first(2)), Error);
  });
}

}  // namespace
}  // namespace farsight
