// SPDX-License-Identifier: Apache-2.0
// Sums of gradients over the ranks in every placement and ZeRO stage, and what the optimizer sees of them.
#include "parallel/gradients.h"

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/adamw.h"
#include "kernels/error.h"
#include "kernels/tape.h"
#include "parallel/inproc_comm.h"
#include "parallel/replica_check.h"

namespace farsight {
namespace {

// How the parameters of the test lie; numbers 3 and 8 never get a gradient.
enum class Kind : uint8_t { replicated, on_rows, sharded, keys };
constexpr int kParameters = 10;
Kind kind_of(int i) { return static_cast<Kind>(i % 4); }
Shape shape_of(int i) { return {5 + i * 37 % 50, 3}; }
bool used(int i) { return i != 3 && i != 8; }

Placement placement_of(Kind kind) {
  Placement p;
  p.partial = kDataContextAxes;
  if (kind == Kind::on_rows) p.partial = p.partial | AxisSet{Axis::tp};
  if (kind == Kind::sharded) p.shard[Axis::tp] = {0, {}};
  if (kind == Kind::keys) {
    p.shard[Axis::kvshard] = {0, {}};
    p.partial = p.partial | AxisSet{Axis::kvrep};
  }
  return p;
}

// A store whose parameters lie in three units, as a rank of the mesh has them.
struct RankModel {
  Mesh mesh;
  ParameterStore store;
  std::vector<Placement> placements;

  RankModel(Communicator& world, const ParallelOptions& options) : mesh(world, options) {
    for (int i = 0; i < kParameters; ++i) {
      if (i == 4 || i == 7) store.begin_unit();
      placements.push_back(placement_of(kind_of(i)));
      store.add(fmt::format("p{}", i), parameter_slice(shape_of(i), placements.back(), mesh.shape(), world.rank()),
                {Init::Kind::normal, 1.0}, /*adjoin=*/i == 5);
    }
  }
};

// What rank `rank` adds in one pass to a logical element: integers, so that sums are exact in any order.
float contribution(int64_t rank, int64_t pass, int parameter, int64_t element) {
  return static_cast<float>((rank * 131 + pass * 59 + parameter * 17 + element * 7) % 201 - 100);
}

// The ranks whose contributions a rank's slice sums up, and over all passes: the definition of "partial".
double expected(const MeshShape& mesh, int64_t rank, int parameter, int64_t element, int64_t passes) {
  if (!used(parameter)) return 0.0;
  double sum = 0.0;
  const Placement placement = placement_of(kind_of(parameter));
  for (int64_t other = 0; other < mesh.world(); ++other) {
    bool counts = true;
    const bool keys = kind_of(parameter) == Kind::keys;
    for (const Axis a :
         {Axis::dp, Axis::ring, Axis::uly, keys ? Axis::kvshard : Axis::tp, keys ? Axis::kvrep : Axis::tp}) {
      counts = counts && (placement.partial.contains(a) || mesh.index(other, a) == mesh.index(rank, a));
    }
    for (int64_t pass = 0; pass < passes && counts; ++pass) {
      sum += static_cast<double>(contribution(other, pass, parameter, element));
    }
  }
  return sum;
}

int64_t logical_index(const Parameter& p, int64_t i) { return p.slice.first[0] * 3 + i; }

// A replicated parameter is computed alike on the tensor ranks.
int64_t source_rank(const MeshShape& mesh, int64_t rank, Kind kind) {
  return kind == Kind::replicated ? rank - mesh.index(rank, Axis::tp) : rank;
}

// y = x, with a backward that writes known numbers into the gradient of one parameter.
Var touch(Tape& tape, const Var& x, Parameter& p, int64_t rank, int64_t pass, int index) {
  Var out = tape.variable(x.value().clone(), {x}, /*uses_parameters=*/true);
  tape.record(out, {&p}, [x, out, &p, rank, pass, index] {
    const float beta = p.begin_accumulate();
    for (int64_t i = 0; i < p.numel(); ++i) {
      float& g = p.grad.data<float>()[i];
      g = contribution(rank, pass, index, logical_index(p, i)) + (beta == 0.0F ? 0.0F : g);
    }
    if (x.requires_grad()) *x.begin_gradient().tensor.data<float>() = *out.grad().data<float>();
  });
  return out;
}

void run_pass(RankModel& s, ParameterShards& shards, GradientReducer& reducer, int64_t pass, bool last) {
  const int64_t rank = s.mesh.world().rank();
  shards.begin_pass(/*training=*/true);
  reducer.begin(last);
  Tape tape;
  tape.on_gradient_ready(reducer.handler());
  Var x = tape.input(Tensor::zeros({1}));
  int64_t open = 0;
  for (int i = 0; i < kParameters; ++i) {
    Parameter& p = s.store.parameters()[static_cast<size_t>(i)];
    if (p.unit != open && p.unit == 1) shards.enter(tape, 1);
    if (p.unit != open && open == 1) shards.leave(tape, 1);
    open = p.unit;
    if (used(i)) x = touch(tape, x, p, source_rank(s.mesh.shape(), rank, kind_of(i)), pass, i);
  }
  tape.backward(x);
  reducer.finish();
  shards.end_pass();
}

// Every gradient that this rank keeps against the definition; the norm and the replicas too.
void check_step(Communicator& world, const ParallelOptions& options, int64_t stage, int64_t bucket, int64_t passes) {
  RankModel s(world, options);
  ParameterShards shards(s.store, s.mesh, s.placements, stage, bucket);
  shards.initialize(3);
  GradientReducer reducer(shards);
  for (int step = 0; step < 2; ++step) {  // nothing of the first step may remain
    reducer.begin_step();
    for (int64_t pass = 0; pass < passes; ++pass) run_pass(s, shards, reducer, pass, pass + 1 == passes);
  }
  int64_t kept = 0;
  for (const auto& piece : shards.pieces()) {
    const auto gradients = shards.gradients(piece).span<float>();
    for (const Parameter& p : s.store.parameters()) {
      const int index = std::stoi(p.name.substr(1));
      for (int64_t i = std::max(p.offset, piece.range.begin); i < std::min(p.offset + p.numel(), piece.range.end);
           ++i) {
        ++kept;
        const int64_t rank = source_rank(s.mesh.shape(), world.rank(), kind_of(index));
        const double want = expected(s.mesh.shape(), rank, index, logical_index(p, i - p.offset), passes);
        ASSERT_EQ(static_cast<double>(gradients[static_cast<size_t>(i - piece.range.begin)]), want)
            << p.name << " element " << i - p.offset << ", stage " << stage << ", bucket " << bucket;
      }
    }
  }
  EXPECT_TRUE(stage > 0 || kept == s.store.parameter_count()) << kept;
  // Each logical element once.
  double squares = 0.0;
  for (int index = 0; index < kParameters; ++index) {
    for (int64_t e = 0; e < shape_of(index)[0] * 3; ++e) {
      for (int64_t rank = 0; rank < s.mesh.shape().world(); ++rank) {
        const Slice slice = slice_of(shape_of(index), s.placements[static_cast<size_t>(index)], s.mesh.shape(), rank);
        if (e < slice.offset[0] * 3 || e >= (slice.offset[0] + slice.shape[0]) * 3) continue;
        squares +=
            std::pow(expected(s.mesh.shape(), source_rank(s.mesh.shape(), rank, kind_of(index)), index, e, passes), 2);
        break;
      }
    }
  }
  const Tensor totals = Tensor::zeros({2}, DType::f64);
  totals.data<double>()[0] = 0.5;
  totals.data<double>()[1] = 17.0;  // whatever was there
  finish_totals(shards, totals);
  EXPECT_EQ(totals.data<double>()[0], 0.5 * static_cast<double>(world.size()));
  EXPECT_NEAR(totals.data<double>()[1], squares, 2e-9 * squares);
  check_replicas(shards);
}

struct Grid {
  int64_t data, ring, uly, tensor, kvrep, zero_group;
};

ParallelOptions options_of(const Grid& g) {
  ParallelOptions o;
  o.data = g.data;
  o.ring = g.ring;
  o.ulysses = g.uly;
  o.tensor = g.tensor;
  o.key_replicas = g.kvrep;
  o.zero_group = g.zero_group;
  return o;
}

class Reduction : public ::testing::TestWithParam<Grid> {};

TEST_P(Reduction, EveryStageSumsWhatPlacementsSay) {
  const ParallelOptions options = options_of(GetParam());
  const auto ranks = static_cast<int>(options.data * options.ring * options.ulysses * options.tensor);
  for (const int64_t stage : {0, 1, 2, 3}) {
    for (const int64_t bucket : {4, 400, 1 << 20}) {
      for (const int64_t passes : {1, 3}) {
        run_in_process(ranks, [&](Communicator& world) { check_step(world, options, stage, bucket, passes); });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, Reduction,
                         ::testing::Values(Grid{1, 1, 1, 1, 1, 0}, Grid{2, 1, 1, 1, 1, 0}, Grid{3, 1, 1, 1, 1, 0},
                                           Grid{1, 1, 1, 3, 1, 0}, Grid{1, 2, 1, 2, 2, 0}, Grid{4, 1, 1, 1, 1, 2},
                                           Grid{2, 1, 2, 2, 1, 0}, Grid{2, 1, 1, 4, 2, 1}, Grid{2, 2, 1, 2, 2, 2}));

// Sums are formed in rank order whatever the buckets: the same bits at every stage.
TEST(GradientReducer, StagesAndBucketsAgreeBitForBit) {
  std::vector<std::vector<float>> slabs;
  for (const int64_t bucket : {4, 400, 1 << 20}) {
    run_in_process(3, [&](Communicator& world) {
      ParallelOptions options;
      RankModel s(world, options);
      ParameterShards shards(s.store, s.mesh, s.placements, 0, bucket);
      GradientReducer reducer(shards);
      reducer.begin_step();
      reducer.begin(/*last=*/true);
      uint32_t state = static_cast<uint32_t>(world.rank()) + 1;
      for (Parameter& p : s.store.parameters()) {
        p.grad_written = true;
        for (float& g : p.grad.span<float>()) {
          state = state * 1664525U + 1013904223U;
          g = static_cast<float>(state) * 1e-9F - 2.0F;
        }
      }
      reducer.finish();
      const auto slab = s.store.gradients().span<float>();
      if (world.rank() == 0) slabs.emplace_back(slab.begin(), slab.end());
    });
  }
  ASSERT_EQ(slabs.size(), 3U);
  EXPECT_EQ(slabs[0], slabs[1]);
  EXPECT_EQ(slabs[0], slabs[2]);
}

// Parameters 9 to 4 become ready, 3 never does: the buckets behind it wait for finish().
TEST(GradientReducer, StartsBucketsDuringBackwardInOneOrder) {
  run_in_process(2, [](Communicator& world) {
    RankModel s(world, {});
    ParameterShards shards(s.store, s.mesh, s.placements, 0, 4);
    GradientReducer reducer(shards);
    reducer.begin_step();
    reducer.begin(/*last=*/true);
    Tape tape;
    tape.on_gradient_ready(reducer.handler());
    Var x = tape.input(Tensor::zeros({1}));
    for (int i = 0; i < kParameters; ++i) {
      if (i != 3) x = touch(tape, x, s.store.parameters()[static_cast<size_t>(i)], world.rank(), 0, i);
    }
    tape.backward(x);
    const ReductionStats stats = reducer.finish();
    EXPECT_EQ(stats.buckets, kParameters);
    EXPECT_EQ(stats.overlapped, 6);
  });
}

TEST(BucketPlan, CoversTheSlabOnceAndAlikeOnAllRanks) {
  run_in_process(4, [](Communicator& world) {
    ParallelOptions options;
    options.tensor = 4;
    options.key_replicas = 2;
    RankModel s(world, options);
    s.store.allocate();
    for (const bool by_unit : {false, true}) {
      for (const int64_t bytes : {4, 300, 2000, 1 << 20}) {
        const auto buckets = plan_buckets(s.store, s.placements, s.mesh.shape(), bytes, by_unit);
        int64_t end = s.store.slab_elements();
        uint64_t names = 0;
        for (const auto& bucket : buckets) {
          EXPECT_EQ(bucket.range.end, end);
          end = bucket.range.begin;
          ASSERT_FALSE(bucket.parameters.empty());
          for (const Parameter* p : bucket.parameters) {
            names = names * 31 + std::hash<std::string>{}(p->name);
            EXPECT_TRUE(!by_unit || p->unit == bucket.unit);
          }
          names = names * 31 + 7;
          int64_t covered = 0;
          for (int64_t r = 0; r < 3; ++r) {
            const SlabRange shard = shard_of(bucket.range, r, 3);
            EXPECT_EQ(shard.begin, bucket.range.begin + covered);
            covered += shard.count();
          }
          EXPECT_EQ(covered, bucket.range.count());
        }
        EXPECT_EQ(end, 0);
        int64_t same[] = {static_cast<int64_t>(names >> 1), -static_cast<int64_t>(names >> 1)};
        world.all_reduce(std::span<int64_t>(same), ReduceOp::max);
        EXPECT_EQ(same[0], -same[1]) << "the ranks cut differently";
      }
    }
  });
}

// AdamW of shards, gathered, equals AdamW of the whole.
TEST(ParameterShards, UpdatesOfShardsMakeTheWholeUpdate) {
  std::vector<std::vector<float>> values(4);
  for (const int64_t stage : {0, 1, 2, 3}) {
    run_in_process(3, [&](Communicator& world) {
      RankModel s(world, {});
      ParameterShards shards(s.store, s.mesh, s.placements, stage, 400);
      shards.initialize(3);
      GradientReducer reducer(shards);
      reducer.begin_step();
      run_pass(s, shards, reducer, 0, /*last=*/true);
      std::vector<float> m(static_cast<size_t>(shards.packed_elements())), v(m.size());
      for (const auto& piece : shards.pieces()) {
        const auto state = [&](std::vector<float>& all) {
          return std::span(all).subspan(static_cast<size_t>(piece.packed), static_cast<size_t>(piece.range.count()));
        };
        const OptimizerRange all{0, piece.range.count(), 1.0F, true};
        adamw(shards.values(piece).span<float>(), shards.gradients(piece).span<float>(), state(m), state(v), {&all, 1},
              {.rate = 0.1, .step = 1});
      }
      shards.gather_values();
      shards.begin_pass(/*training=*/false);
      Tape tape(/*recording=*/false);
      shards.enter(tape, 1);
      if (world.rank() == 0) {
        for (const Parameter& p : s.store.parameters()) {
          const auto span = p.value.span<float>();
          auto& to = values[static_cast<size_t>(stage)];
          to.insert(to.end(), span.begin(), span.end());
        }
      }
      shards.leave(tape, 1);
      shards.end_pass();
      EXPECT_EQ(s.store.parameters().front().value.defined(), stage < 3);
    });
  }
  for (const size_t stage : {1U, 2U, 3U}) EXPECT_EQ(values[stage], values[0]) << "stage " << stage;
}

// What a stage keeps: elements of gradients and values between steps.
TEST(ParameterShards, KeepsOneShareOfWhatItsStageShares) {
  run_in_process(4, [](Communicator& world) {
    for (const int64_t stage : {0, 1, 2, 3}) {
      RankModel s(world, {});
      ParameterShards shards(s.store, s.mesh, s.placements, stage, 1 << 20);
      const int64_t all = s.store.slab_elements();
      const int64_t share = all / 4 + 16 * static_cast<int64_t>(shards.buckets().size());
      EXPECT_LE(shards.packed_elements(), stage == 0 ? all : share);
      EXPECT_EQ(s.store.gradients().defined(), stage < 2);
      EXPECT_EQ(s.store.values().defined(), stage < 3);
    }
  });
}

TEST(GradientReducer, MisuseIsReported) {
  auto self = make_self_communicator();
  RankModel s(*self, {});
  ParameterShards shards(s.store, s.mesh, s.placements, 0, 1 << 20);
  GradientReducer reducer(shards);
  EXPECT_THROW(reducer.finish(), Error);
  reducer.ready(s.store.parameters().front());  // not armed: ignored
  reducer.begin(/*last=*/true);
  EXPECT_THROW(reducer.begin(/*last=*/true), Error);
  reducer.ready(s.store.parameters().front());
  EXPECT_THROW(reducer.ready(s.store.parameters().front()), Error);
  RankModel other(*self, {});
  EXPECT_THROW(ParameterShards(other.store, other.mesh, other.placements, 4, 1 << 20), Error);
  RankModel third(*self, {});
  EXPECT_THROW(ParameterShards(third.store, third.mesh, std::span(third.placements).first(2), 0, 1 << 20), Error);
}

}  // namespace
}  // namespace farsight
